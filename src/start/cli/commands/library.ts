import type { Command } from '@commander-js/extra-typings';
import type { z } from 'zod';
import { formatBytes } from '../../../base/index.ts';
import { statsSchema } from '../../../serve/index.ts';
import { runJob } from '../../client/follow-job.ts';
import type { CliContext } from '../context.ts';
import { formatFields } from '../support/brightbox-table.ts';
import { openClient } from '../support/daemon-access.ts';
import { reportOf, verifyWords } from '../support/job-end.ts';
import { PROFILE_OPTION } from '../support/profile-option.ts';
import { registerLibraryRebuild } from './library-rebuild.ts';
import { registerLibraryExport, registerLibraryImport } from './library-transfer.ts';

const STATS_EXAMPLES = `
Example:
  ingot library stats
`;
const VERIFY_EXAMPLES = `
Examples:
  ingot library verify                 every stored byte is read and compared
  ingot library verify --json          the report

The status is 36 when there is damage. A damaged chunk is healed by the next import that has it.
`;
const GC_EXAMPLES = `
Examples:
  ingot library gc
  ingot library gc --force             also when more than 30 % would go
`;
const BACKUP_EXAMPLES = `
Example:
  ingot library backup                 into backups/ of the data directory
`;

/** `ingot library …`. */
export function registerLibrary(program: Command, context: CliContext): void {
  const library = program
    .command('library')
    .description('the store of a daemon: verify it, take space back, count, back up');
  registerStats(library, context);
  registerVerify(library, context);
  registerGc(library, context);
  registerBackup(library, context);
  registerLibraryRebuild(library, context);
  registerLibraryExport(library, context);
  registerLibraryImport(library, context);
}

function registerStats(library: Command, context: CliContext): void {
  library
    .command('stats')
    .description('count what the library holds')
    .option('--json', 'as JSON')
    .option(...PROFILE_OPTION)
    .addHelpText('after', STATS_EXAMPLES)
    .action(async (options) => {
      using client = openClient(context, options);
      const stats = await client.json(statsSchema, { method: 'GET', path: '/library/stats' });
      if (options.json === true) {
        context.stdout.write(`${JSON.stringify(stats, null, 2)}\n`);
        return;
      }
      const ratio = stats.live_bytes === 0 ? 0 : stats.virtual_bytes / stats.live_bytes;
      context.stdout.write(
        formatFields([
          ['images', String(stats.images)],
          ['disks together', formatBytes(stats.virtual_bytes)],
          ['chunks', String(stats.chunks)],
          ['plain bytes of chunks', formatBytes(stats.plain_bytes)],
          ['stored bytes of chunks', formatBytes(stats.live_bytes)],
          ['disks to stored bytes', `${ratio.toFixed(1)} : 1`],
          ['packs', `${stats.packs} (${formatBytes(stats.pack_bytes)})`],
          ['waiting for gc', formatBytes(stats.condemned_bytes)],
          ['quarantined chunks', String(stats.quarantined_chunks)],
          ...stats.schedules.map(scheduleField),
        ]),
      );
    });
}

function scheduleField(
  schedule: z.infer<typeof statsSchema>['schedules'][number],
): [string, string] {
  const { kind, pattern, next_at: next, last_at: last, last_state: state } = schedule;
  const before = last === null ? 'not yet' : `last ${last}, ${state}`;
  return [`scheduled ${kind}`, `${pattern}: next ${next ?? 'never'}, ${before}`];
}

function registerVerify(library: Command, context: CliContext): void {
  library
    .command('verify')
    .description('read everything back and compare it with its digests')
    .option('--quiet', 'no progress')
    .option('--json', 'the report as JSON')
    .option(...PROFILE_OPTION)
    .addHelpText('after', VERIFY_EXAMPLES)
    .action(async (options) => {
      using client = openClient(context, options);
      using progress = context.progress('verify');
      const call = { method: 'POST', path: '/library/verify' } as const;
      const job = await runJob(client, call, progress);
      progress[Symbol.dispose]();
      if (options.json === true) context.stdout.write(`${JSON.stringify(job.report)}\n`);
      const words = verifyWords(job);
      if (options.json !== true) context.stdout.write(`${words}\n`);
    });
}

function registerGc(library: Command, context: CliContext): void {
  library
    .command('gc')
    .description('remove what no image needs')
    .option('--force', 'also when more than 30 % of the stored bytes would go')
    .option('--quiet', 'no progress')
    .option('--json', 'the report as JSON')
    .option(...PROFILE_OPTION)
    .addHelpText('after', GC_EXAMPLES)
    .action(async (options) => {
      using client = openClient(context, options);
      using progress = context.progress('gc');
      const job = await runJob(
        client,
        { method: 'POST', path: '/library/gc' },
        { body: { force: options.force === true }, onProgress: progress.onProgress },
      );
      progress[Symbol.dispose]();
      const report = reportOf(job);
      context.stdout.write(
        options.json === true
          ? `${JSON.stringify(report)}\n`
          : `Freed ${formatBytes(Number(report['freedBytes']))}: ${Number(report['removedPacks'])} packs removed, ${Number(report['rewrittenPacks'])} rewritten.\n`,
      );
    });
}

function registerBackup(library: Command, context: CliContext): void {
  library
    .command('backup')
    .description('copy the state (images, accounts, jobs) to a file of the data directory')
    .option('--json', 'as JSON')
    .option(...PROFILE_OPTION)
    .addHelpText('after', BACKUP_EXAMPLES)
    .action(async (options) => {
      using client = openClient(context, options);
      using progress = context.progress('backup');
      const call = { method: 'POST', path: '/library/backup' } as const;
      const report = reportOf(await runJob(client, call, progress));
      context.stdout.write(
        options.json === true ? `${JSON.stringify(report)}\n` : `${String(report['file'])}\n`,
      );
    });
}
