import { text } from 'node:stream/consumers';
import { type Command, Option } from '@commander-js/extra-typings';
import { systemClock } from '../../../base/index.ts';
import { WIRE_CODECS } from '../../../bytes/index.ts';
import { openDescriptorTarget } from '../../../capture/adapters/descriptor-target.ts';
import { openFileTarget } from '../../../capture/adapters/file-target.ts';
import { openRemoteSource } from '../../../capture/adapters/open-remote-source.ts';
import { dumpSnapshot, MAX_STALL_MS } from '../../../capture/index.ts';
import type { CliContext } from '../context.ts';
import { ask } from '../support/ask.ts';
import { durationOption, sayReport, writtenWhileFrozen } from '../support/snapshot-output.ts';
import { COMPRESSIONS, compressorNamed } from '../support/stream-compressors.ts';

const EXAMPLES = `
Examples:
  ingot snapshot pull ssh://pi@device -o golden.fs              the device's root filesystem
  ingot snapshot pull ssh://device:2222 --source /data -C zstd -o data.zst
  ingot snapshot pull ssh://device -S -i -S ~/.ssh/device -o golden.fs

The device needs sshd, sh, dd, fsfreeze, and root or sudo; nothing is installed on it. A password
for sudo is asked for here, or read from stdin where that is no terminal.
`;

/** Gives the password of sudo: typed by a person, or the first line of a stdin that is piped. */
async function sudoPassword(
  context: CliContext,
  url: string,
  attempt: number,
): Promise<string | undefined> {
  if ('isTTY' in context.stdin && context.stdin.isTTY === true) {
    const again = attempt > 1 ? 'Sorry, try again. ' : '';
    return ask(context, `${again}Password for sudo on ${url}: `, { hidden: true });
  }
  if (attempt > 1) return undefined;
  const [line] = (await text(context.stdin)).split('\n');
  return line === undefined || line === '' ? undefined : line;
}

/** `ingot snapshot pull`. */
export function registerSnapshotPull(snapshot: Command, context: CliContext): void {
  snapshot
    .command('pull')
    .description('copy a consistent snapshot of another machine over ssh')
    .argument('<url>', 'ssh://[user@]host[:port]')
    .option('--source <path>', 'a folder of the filesystem or a block device, there', '/')
    .option('-o, --output <file>', 'write to a file instead of stdout; - is stdout')
    .option(
      '-S, --ssh-args <argument>',
      'an argument for ssh; may be given several times',
      (argument, before: string[]) => [...before, argument],
      [],
    )
    .addOption(
      new Option('-C, --compression <how>', 'compress the image')
        .choices(COMPRESSIONS)
        .default('none' as const),
    )
    .addOption(
      new Option('--wire <how>', 'compress what goes over the link')
        .choices(['auto', ...WIRE_CODECS])
        .default('auto' as const),
    )
    .addOption(
      new Option('--free-space <how>', 'what free blocks become')
        .choices(['zero', 'keep'])
        .default('zero' as const),
    )
    .option('--verbatim', 'the exact bytes; the same as --free-space keep')
    .option('--max-freeze <time>', 'end the freeze, and fail, after this long', durationOption)
    .option('--no-freeze', 'read while it changes; the copy is of no single instant')
    .option('--quiet', 'no progress and no closing line')
    .option('--json', 'end with the facts as JSON on stderr')
    .addHelpText('after', EXAMPLES)
    .action(async (url, options) => {
      const output = options.output === '-' ? undefined : options.output;
      const isTerminal = 'isTTY' in context.stdout && context.stdout.isTTY === true;
      await using stack = new AsyncDisposableStack();
      // A terminal is refused before anybody logs in.
      const stdout = output === undefined ? openDescriptorTarget(1, isTerminal) : undefined;
      if (stdout !== undefined) stack.use(stdout);
      const compressor = await compressorNamed(options.compression);
      const target = stdout ?? stack.use(await openFileTarget(output ?? '-'));
      const source = await openRemoteSource({
        url,
        source: options.source,
        sshArguments: options.sshArgs,
        freeSpace: options.verbatim === true ? 'keep' : options.freeSpace,
        freeze: options.freeze,
        limits: { maxFreezeMs: options.maxFreeze, maxStallMs: MAX_STALL_MS },
        wire: options.wire,
        askPassword: (attempt) => sudoPassword(context, url, attempt),
        forbiddenPaths: writtenWhileFrozen(output),
      });
      stack.use(source);
      const progress = stack.use(context.progress('snapshot'));
      const report = await dumpSnapshot({
        source,
        target,
        compressor,
        onProgress: progress.onProgress,
        signal: context.signal,
        clock: systemClock,
      });
      progress[Symbol.dispose]();
      if (options.quiet !== true || options.json === true)
        sayReport(context, report, options.json === true);
    });
}
