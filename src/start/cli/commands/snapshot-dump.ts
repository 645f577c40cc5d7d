import { statSync } from 'node:fs';
import { type Command, Option } from '@commander-js/extra-typings';
import { noProgress } from '../../../base/index.ts';
import { openDescriptorTarget } from '../../../capture/adapters/descriptor-target.ts';
import { openFileTarget } from '../../../capture/adapters/file-target.ts';
import { openSnapshotSource } from '../../../capture/adapters/open-snapshot-source.ts';
import { DEFAULT_MAX_FREEZE_MS, type DumpTarget, MAX_STALL_MS } from '../../../capture/index.ts';
import type { CliContext } from '../context.ts';
import { durationOption } from '../support/duration-option.ts';
import { GENERALIZE_OPTION, SHRINK_OPTION } from '../support/edit-disk-file.ts';
import { isPipe, writeSnapshot, writtenWhileFrozen } from '../support/snapshot-output.ts';
import { COMPRESSIONS, compressorNamed } from '../support/stream-compressors.ts';

const EXAMPLES = `
Examples:
  ingot snapshot dump -o /media/usb/root.fs              the root filesystem into a file, frozen
                                                          for one read only
  ingot snapshot dump -C gzip | ssh host 'cat > root.gz'  compressed, over the network
  ingot snapshot dump --source /dev/sda2 -C zstd -o a.zst a device, mounted or not
  ingot snapshot dump --generalize --shrink -o golden.fs  small, and without this machine's traces
`;

/** Whether bytes can be written there in any order, before and while something is frozen. */
function takesAnyOrder(stdout: DumpTarget | undefined, output: string | undefined): boolean {
  if (output === undefined) return stdout?.positioned !== undefined;
  const stat = statSync(output, { throwIfNoEntry: false });
  return stat === undefined || stat.isFile() || stat.isBlockDevice();
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
    .option(
      '--max-freeze <time>',
      'end the freeze, and fail, after this long (files: 60s)',
      durationOption,
    )
    .option('--no-freeze', 'read while it changes; the copy is of no single instant')
    .option(...GENERALIZE_OPTION)
    .option(...SHRINK_OPTION)
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
      const isEdited = options.generalize === true || options.shrink === true;
      const isPrecopied = isEdited || (compressor === undefined && takesAnyOrder(stdout, output));
      const maxFreezeMs = options.maxFreeze ?? (isPrecopied ? DEFAULT_MAX_FREEZE_MS : undefined);
      const source = await openSnapshotSource({
        source: options.source,
        freeSpace: options.verbatim === true ? 'keep' : options.freeSpace,
        freeze: options.freeze,
        limits: { maxFreezeMs, maxStallMs: MAX_STALL_MS },
        forbiddenPaths: writtenWhileFrozen(output),
      });
      stack.use(source);
      const target = stdout ?? stack.use(await openFileTarget(output ?? '-'));
      // Copies in several passes say nothing while something is frozen.
      const onProgress = source.mayChange && !isPrecopied && isPipe(2) ? noProgress : undefined;
      const request = { source, target, compressor, output, onProgress };
      await writeSnapshot(context, request, options);
    });
}
