import { fstatSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, resolve } from 'node:path';
import { type Command, InvalidArgumentError, Option } from '@commander-js/extra-typings';
import {
  formatBytes,
  formatDuration,
  noProgress,
  parseDuration,
  systemClock,
} from '../../../base/index.ts';
import { openDescriptorTarget } from '../../../capture/adapters/descriptor-target.ts';
import { openFileTarget } from '../../../capture/adapters/file-target.ts';
import {
  type ForbiddenPath,
  openSnapshotSource,
} from '../../../capture/adapters/open-snapshot-source.ts';
import { type DumpReport, dumpSnapshot, MAX_STALL_MS } from '../../../capture/index.ts';
import type { CliContext } from '../context.ts';
import { COMPRESSIONS, compressorNamed } from '../support/stream-compressors.ts';

const EXAMPLES = `
Examples:
  ingot snapshot dump -o /media/usb/root.fs              the root filesystem into a file
  ingot snapshot dump -C gzip | ssh host 'cat > root.gz'  compressed, over the network
  ingot snapshot dump --source /dev/sda2 -C zstd -o a.zst a device, mounted or not
`;

function durationOption(text: string): number {
  const ms = parseDuration(text);
  if (ms === undefined || ms <= 0) throw new InvalidArgumentError('such as 90s or 5m.');
  return ms;
}

/** What is written while the source is frozen. */
function writtenWhileFrozen(output: string | undefined): ForbiddenPath[] {
  return [
    output === undefined
      ? { label: 'stdout', path: '/proc/self/fd/1' }
      : { label: output, path: dirname(resolve(output)) },
    { label: 'stderr', path: '/proc/self/fd/2' },
    { label: `the folder for temporary files (${tmpdir()})`, path: tmpdir() },
  ];
}

/** A log's pipe may end on the frozen filesystem, and then whoever writes to it waits. */
function isPipe(fd: number): boolean {
  const stat = fstatSync(fd);
  return stat.isFIFO() || stat.isSocket();
}

function say(context: CliContext, report: DumpReport, isJson: boolean): void {
  const { sizeBytes, allocatedBytes, writtenBytes, elapsedMs, capture } = report;
  const words =
    `${formatBytes(sizeBytes)}, ${formatBytes(allocatedBytes)} of it copied as ` +
    `${formatBytes(writtenBytes)} in ${formatDuration(elapsedMs)}; ` +
    `frozen for ${formatDuration(capture.freezeMs)}, consistency: ${capture.consistency}`;
  for (const notice of isJson ? [] : report.notices) context.stderr.write(`note: ${notice}\n`);
  context.stderr.write(isJson ? `${JSON.stringify(report)}\n` : `${words}\n`);
}

/** `ingot snapshot dump`. */
export function registerSnapshotDump(snapshot: Command, context: CliContext): void {
  snapshot
    .command('dump')
    .description('copy a consistent snapshot of a filesystem or disk to stdout or a file')
    .option('--source <path>', 'a folder of the filesystem, a block device or an image file', '/')
    .option('-o, --output <file>', 'write to a file instead of stdout; - is stdout')
    .addOption(
      new Option('-C, --compression <how>', 'compress the image')
        .choices(COMPRESSIONS)
        .default('none' as const),
    )
    .addOption(
      new Option(
        '--free-space <how>',
        'what free blocks become (default: zero for what lives)',
      ).choices(['zero', 'keep']),
    )
    .option('--verbatim', 'the exact bytes; the same as --free-space keep')
    .option('--max-freeze <time>', 'end the freeze, and fail, after this long', durationOption)
    .option('--no-freeze', 'read while it changes; the copy is of no single instant')
    .option('--quiet', 'no progress and no closing line')
    .option('--json', 'end with the facts as JSON on stderr')
    .addHelpText('after', EXAMPLES)
    .action(async (options) => {
      const output = options.output === '-' ? undefined : options.output;
      const isTerminal = 'isTTY' in context.stdout && context.stdout.isTTY === true;
      await using stack = new AsyncDisposableStack();
      // A terminal is refused before anything is opened.
      const stdout = output === undefined ? openDescriptorTarget(1, isTerminal) : undefined;
      if (stdout !== undefined) stack.use(stdout);
      const compressor = await compressorNamed(options.compression);
      const source = await openSnapshotSource({
        source: options.source,
        freeSpace: options.verbatim === true ? 'keep' : options.freeSpace,
        freeze: options.freeze,
        limits: { maxFreezeMs: options.maxFreeze, maxStallMs: MAX_STALL_MS },
        forbiddenPaths: writtenWhileFrozen(output),
      });
      stack.use(source);
      const target = stdout ?? stack.use(await openFileTarget(output ?? '-'));
      const progress = stack.use(context.progress('snapshot'));
      const report = await dumpSnapshot({
        source,
        target,
        compressor,
        onProgress: source.mayChange && isPipe(2) ? noProgress : progress.onProgress,
        signal: context.signal,
        clock: systemClock,
      });
      progress[Symbol.dispose]();
      if (options.quiet !== true || options.json === true)
        say(context, report, options.json === true);
    });
}
