import { text } from 'node:stream/consumers';
import { type Command, Option } from '@commander-js/extra-typings';
import { formatBytes, formatDuration, IngotError, systemClock } from '../../../base/index.ts';
import { WIRE_CODECS, type WireCodec } from '../../../bytes/index.ts';
import { openDescriptorTarget } from '../../../capture/adapters/descriptor-target.ts';
import { openFileTarget } from '../../../capture/adapters/file-target.ts';
import { openRemoteSource } from '../../../capture/adapters/open-remote-source.ts';
import type { ForbiddenPath } from '../../../capture/adapters/open-snapshot-source.ts';
import { dumpSnapshot, MAX_STALL_MS } from '../../../capture/index.ts';
import { openFastestCodec } from '../../../keep/adapters/fastest-segment-codec.ts';
import { fileSpools } from '../../../keep/adapters/file-spool.ts';
import { ingestSnapshot } from '../../../keep/index.ts';
import { HttpIngestTarget } from '../../client/http-ingest-target.ts';
import { chooseProfile } from '../../settings/profiles.ts';
import type { CliContext } from '../context.ts';
import { ask } from '../support/ask.ts';
import { type DaemonOptions, openClient, PROFILE_OPTION } from '../support/daemon-access.ts';
import { imageJson } from '../support/image-views.ts';
import { durationOption, sayReport, writtenWhileFrozen } from '../support/snapshot-output.ts';
import { spoolFolder } from '../support/spool-folder.ts';
import { COMPRESSIONS, compressorNamed } from '../support/stream-compressors.ts';

const EXAMPLES = `
Examples:
  ingot snapshot pull ssh://pi@device -o golden.fs              the device's root filesystem
  ingot snapshot pull ssh://device:2222 --source /data -C zstd -o data.zst
  ingot snapshot pull ssh://pi@device --name golden             into the library
  ingot snapshot pull ssh://device -S -i -S ~/.ssh/device -o golden.fs

The device needs sshd, sh, dd, fsfreeze, and root or sudo; nothing is installed on it. A password
for sudo is asked for here, or read from stdin where that is no terminal.
`;

/** Gives the password of sudo: typed by a person, or the first line of a stdin that is piped. */
export async function sudoPassword(
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
    .option('-n, --name <name>', 'into the library instead, as an image of this name')
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
    .option('--spool <dir>', 'with --name: where to put what memory cannot hold')
    .option(...PROFILE_OPTION)
    .option('--quiet', 'no progress and no closing line')
    .option('--json', 'end with the facts as JSON on stderr')
    .addHelpText('after', EXAMPLES)
    .action(async (url, options) => {
      if (options.name !== undefined && options.output !== undefined) {
        throw new IngotError('request-invalid', 'either --name or -o can be given');
      }
      if (options.name === undefined) await pullToFile(context, url, options);
      else await pullToLibrary(context, url, { ...options, name: options.name });
    });
}

interface PullOptions extends DaemonOptions {
  readonly source: string;
  readonly output?: string | undefined;
  readonly sshArgs: readonly string[];
  readonly compression: (typeof COMPRESSIONS)[number];
  readonly wire: WireCodec | 'auto';
  readonly freeSpace: 'zero' | 'keep';
  readonly verbatim?: boolean | undefined;
  readonly maxFreeze?: number | undefined;
  readonly freeze: boolean;
  readonly spool?: string | undefined;
  readonly quiet?: boolean | undefined;
  readonly json?: boolean | undefined;
}

function openSource(
  context: CliContext,
  url: string,
  options: PullOptions,
  forbiddenPaths: readonly ForbiddenPath[],
): ReturnType<typeof openRemoteSource> {
  return openRemoteSource({
    url,
    source: options.source,
    sshArguments: options.sshArgs,
    freeSpace: options.verbatim === true ? 'keep' : options.freeSpace,
    freeze: options.freeze,
    limits: { maxFreezeMs: options.maxFreeze, maxStallMs: MAX_STALL_MS },
    wire: options.wire,
    askPassword: (attempt) => sudoPassword(context, url, attempt),
    forbiddenPaths,
    signal: context.signal,
  });
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
  const source = await openSource(context, url, options, writtenWhileFrozen(output));
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
}

/** Takes the snapshot into the library: chunks go to the daemon while they come in. */
async function pullToLibrary(
  context: CliContext,
  url: string,
  options: PullOptions & { readonly name: string },
): Promise<void> {
  using client = openClient(context, options);
  // Before anybody logs in: a daemon that is not there ends it here.
  await client.login();
  const { data } = chooseProfile(context.env, options.profile);
  const folder = spoolFolder(options.spool, undefined);
  await using source = await openSource(context, url, options, [
    { label: 'stdout', path: '/proc/self/fd/1' },
    { label: 'stderr', path: '/proc/self/fd/2' },
    { label: `the spool in ${folder}`, path: folder },
    ...(data === undefined ? [] : [{ label: `the library in ${data}`, path: data }]),
  ]);
  const { codec } = await openFastestCodec();
  using progress = context.progress('snapshot');
  const image = await ingestSnapshot({
    source,
    target: new HttpIngestTarget(client),
    codec,
    description: {
      name: options.name,
      description: '',
      kind: 'snapshot',
      arch: source.arch,
      ancestorId: undefined,
      compatibilityMode: false,
    },
    onProgress: progress.onProgress,
    signal: context.signal,
    openSpool: fileSpools(folder),
    clock: systemClock,
  });
  progress[Symbol.dispose]();
  const { capture } = image;
  for (const notice of source.notices()) context.stderr.write(`note: ${notice}\n`);
  if (options.quiet !== true) {
    context.stderr.write(
      `${image.id} (${image.name}): ${formatBytes(image.virtualSizeBytes)}, ` +
        `${formatBytes(image.addedBytes)} added; frozen for ${formatDuration(capture.freezeMs)}, ` +
        `consistency: ${capture.consistency}\n`,
    );
  }
  const asJson = options.json === true;
  context.stdout.write(asJson ? `${JSON.stringify(imageJson(image), null, 2)}\n` : `${image.id}\n`);
}
