import { type Command, Option } from '@commander-js/extra-typings';
import { IngotError } from '../../../base/index.ts';
import { openDescriptorTarget } from '../../../capture/adapters/descriptor-target.ts';
import { openFileTarget } from '../../../capture/adapters/file-target.ts';
import type { CliContext } from '../context.ts';
import { durationOption } from '../support/duration-option.ts';
import { GENERALIZE_OPTION, SHRINK_OPTION } from '../support/edit-disk-file.ts';
import { PROFILE_OPTION } from '../support/profile-option.ts';
import {
  PRECOPY_OPTION,
  RESUME_OPTION,
  sshArgsOption,
  wireOption,
} from '../support/remote-options.ts';
import { importRemote, openRemote, type RemoteOptions } from '../support/remote-source.ts';
import {
  type SnapshotOutputOptions,
  writeSnapshot,
  writtenWhileFrozen,
} from '../support/snapshot-output.ts';
import { COMPRESSIONS, compressorNamed } from '../support/stream-compressors.ts';

const EXAMPLES = `
Examples:
  ingot snapshot pull ssh://pi@device -o golden.fs              the device's root filesystem
  ingot snapshot pull ssh://device:2222 --source /data -C zstd -o data.zst
  ingot snapshot pull ssh://pi@device --name golden             into the library
  ingot snapshot pull ssh://pi@device -o golden.fs --resume golden.pull     again after a failure: goes on
  ingot snapshot pull ssh://device -S -i -S ~/.ssh/device -o golden.fs

The device needs sshd, sh, dd, fsfreeze, and root or sudo; nothing is installed on it. A password
for sudo is asked for here, or read from stdin where that is no terminal.
`;

/** `ingot snapshot pull`. */
export function registerSnapshotPull(snapshot: Command, context: CliContext): void {
  snapshot
    .command('pull')
    .description('copy a consistent snapshot of another machine over ssh')
    .argument('<url>', 'ssh://[user@]host[:port]')
    .option('--source <path>', 'a folder of the filesystem or a block device, there', '/')
    .option('-o, --output <file>', 'write to a file instead of stdout; - is stdout')
    .option('-n, --name <name>', 'into the library instead, as an image of this name')
    .addOption(sshArgsOption())
    .addOption(
      new Option('-C, --compression <how>', 'compress the image')
        .choices(COMPRESSIONS)
        .default('none' as const),
    )
    .addOption(wireOption())
    .addOption(
      new Option('--free-space <how>', 'what free blocks become')
        .choices(['zero', 'keep'])
        .default('zero' as const),
    )
    .option('--verbatim', 'the exact bytes; the same as --free-space keep')
    .option('--max-freeze <time>', 'end the freeze, and fail, after this long', durationOption)
    .option('--no-freeze', 'read while it changes; the copy is of no single instant')
    .option(...GENERALIZE_OPTION)
    .option(...SHRINK_OPTION)
    .option(...PRECOPY_OPTION)
    .option(...RESUME_OPTION)
    .option('--spool <dir>', 'where to put what memory cannot hold')
    .option(...PROFILE_OPTION)
    .option('--quiet', 'no progress and no closing line')
    .option('--json', 'end with the facts as JSON on stderr')
    .addHelpText('after', EXAMPLES)
    .action(async (url, options) => {
      if (options.name !== undefined && options.output !== undefined) {
        throw new IngotError('request-invalid', 'either --name or -o can be given');
      }
      if (options.name === undefined) await pullToFile(context, url, options);
      else await importRemote(context, url, { ...options, name: options.name });
    });
}

interface PullOptions extends RemoteOptions, SnapshotOutputOptions {
  readonly output?: string | undefined;
  readonly compression: (typeof COMPRESSIONS)[number];
}

async function pullToFile(context: CliContext, url: string, options: PullOptions): Promise<void> {
  const output = options.output === '-' ? undefined : options.output;
  const isTerminal = 'isTTY' in context.stdout && context.stdout.isTTY === true;
  await using stack = new AsyncDisposableStack();
  // A terminal is refused before anybody logs in.
  const stdout = output === undefined ? openDescriptorTarget(1, isTerminal) : undefined;
  if (stdout !== undefined) stack.use(stdout);
  const compressor = await compressorNamed(options.compression);
  const target = stdout ?? stack.use(await openFileTarget(output ?? '-'));
  const source = await openRemote(context, url, options, writtenWhileFrozen(output));
  stack.use(source);
  const request = { source, target, compressor, output, onProgress: undefined };
  await writeSnapshot(context, request, options);
  await source.delivered();
}
