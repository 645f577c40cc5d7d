import type { Command } from '@commander-js/extra-typings';
import { z } from 'zod';
import { formatBytes, type Id, IngotError, isId } from '../../../base/index.ts';
import { jobSchema, type WireJob } from '../../../serve/index.ts';
import { followJob } from '../../client/follow-job.ts';
import type { CliContext } from '../context.ts';
import { type Column, formatFields, formatTable } from '../support/brightbox-table.ts';
import { openClient } from '../support/daemon-access.ts';
import { PROFILE_OPTION } from '../support/profile-option.ts';

const LIST_EXAMPLES = `
Examples:
  ingot jobs list
  ingot jobs list --open               only what is queued or running
`;
const SHOW_EXAMPLES = `
Examples:
  ingot jobs show job-h3nbk
  ingot jobs show --wait job-h3nbk     until it is over
`;
const CANCEL_EXAMPLES = `
Example:
  ingot jobs cancel job-h3nbk
`;

const COLUMNS: readonly Column<WireJob>[] = [
  { heading: 'id', text: (job) => job.id },
  { heading: 'kind', text: (job) => job.kind },
  { heading: 'subject', text: (job) => job.subject },
  { heading: 'state', text: (job) => job.state },
  { heading: 'created_at', text: (job) => job.created_at },
  { heading: 'done', text: doneWords },
];

/** `ingot jobs …`. */
export function registerJobs(program: Command, context: CliContext): void {
  const jobs = program.command('jobs').description('long work of a daemon');
  jobs
    .command('list')
    .description('list jobs, the newest first')
    .option('--open', 'only what is queued or running')
    .option('--json', 'as JSON')
    .option(...PROFILE_OPTION)
    .addHelpText('after', LIST_EXAMPLES)
    .action(async (options) => {
      using client = openClient(context, options);
      const path = options.open === true ? '/jobs?open=true' : '/jobs';
      const shape = z.object({ jobs: z.array(jobSchema) });
      const { jobs: found } = await client.json(shape, { method: 'GET', path });
      context.stdout.write(
        options.json === true ? `${JSON.stringify(found, null, 2)}\n` : formatTable(COLUMNS, found),
      );
    });
  jobs
    .command('show')
    .description('show a job')
    .argument('<job>', 'its id')
    .option('-w, --wait', 'wait for its end')
    .option('--json', 'as JSON')
    .option(...PROFILE_OPTION)
    .addHelpText('after', SHOW_EXAMPLES)
    .action(async (text, options) => {
      using client = openClient(context, options);
      const id = jobIdOf(text);
      using progress = context.progress(id);
      const job =
        options.wait === true
          ? await followJob(client, id, progress.onProgress)
          : await client.json(jobSchema, { method: 'GET', path: `/jobs/${id}` });
      progress[Symbol.dispose]();
      show(context, job, options.json === true);
    });
  jobs
    .command('cancel')
    .description('stop a job for good')
    .argument('<job>', 'its id')
    .option('--json', 'as JSON')
    .option(...PROFILE_OPTION)
    .addHelpText('after', CANCEL_EXAMPLES)
    .action(async (text, options) => {
      using client = openClient(context, options);
      const call = { method: 'DELETE', path: `/jobs/${jobIdOf(text)}` } as const;
      show(context, await client.json(jobSchema, call), options.json === true);
    });
}

function show(context: CliContext, job: WireJob, isJson: boolean): void {
  context.stdout.write(
    isJson
      ? `${JSON.stringify(job, null, 2)}\n`
      : formatFields([
          ['id', job.id],
          ['kind', job.kind],
          ['subject', job.subject],
          ['state', job.state],
          ['stage', job.stage],
          ['done', doneWords(job)],
          ['created_at', job.created_at],
          ['finished_at', job.finished_at ?? ''],
          ['failure', job.failure ?? ''],
          ['report', job.report === null ? '' : JSON.stringify(job.report)],
        ]),
  );
}

function doneWords(job: WireJob): string {
  if (job.total_bytes === null) return job.done_bytes === 0 ? '' : formatBytes(job.done_bytes);
  return `${formatBytes(job.done_bytes)} of ${formatBytes(job.total_bytes)}`;
}

function jobIdOf(text: string): Id<'job'> {
  if (isId('job', text)) return text;
  throw new IngotError('job-not-found', `${text} is no job id; they look like job-h3nbk`);
}
