import { dirname, resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import { IngotError } from '../../../base/index.ts';
import type { WireCodec } from '../../../bytes/index.ts';
import { openRemoteSource } from '../../../capture/adapters/open-remote-source.ts';
import type { ForbiddenPath } from '../../../capture/adapters/open-snapshot-source.ts';
import { openPullFile } from '../../../capture/adapters/pull-file.ts';
import { MAX_STALL_MS } from '../../../capture/index.ts';
import type { MirrorSpool } from '../../../capture/remote/spool-records.ts';
import { fileSpools } from '../../../keep/adapters/file-spool.ts';
import type { CliContext } from '../context.ts';
import { ask } from './ask.ts';
import { type DaemonOptions, imageIdOf, openClient } from './daemon-access.ts';
import type { EditOptions } from './edit-disk-file.ts';
import { importCapture } from './import-capture.ts';
import { writtenWhileImporting } from './snapshot-output.ts';
import { spoolFolder } from './spool-folder.ts';

/** The flags of a command that captures another machine. */
export interface RemoteOptions {
  readonly source: string;
  readonly sshArgs: readonly string[];
  readonly wire: WireCodec | 'auto';
  readonly freeSpace: 'zero' | 'keep';
  readonly verbatim?: boolean | undefined;
  readonly maxFreeze?: number | undefined;
  readonly freeze: boolean;
  /** Default: true. */
  readonly precopy?: boolean | undefined;
  readonly spool?: string | undefined;
  /** A file that keeps what came over until the image is safe. */
  readonly resume?: string | undefined;
}

/** The flags of a command that takes another machine into the library. */
export interface RemoteImportOptions extends RemoteOptions, DaemonOptions, EditOptions {
  readonly name: string;
  readonly description?: string | undefined;
  /** Undefined: what the machine says. */
  readonly arch?: string | undefined;
  readonly ancestor?: string | undefined;
  readonly quiet?: boolean | undefined;
  readonly json?: boolean | undefined;
}

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

/**
 * Chooses where what comes over is put until the device is thawed, if it is.
 *
 * @param folder for a spool without a name
 * @returns parts of a request; the paths are those that must not freeze
 * @throws IngotError `request-invalid` for a file to go on with and no pre-copy
 */
export function spoolRequest(
  { precopy, resume: path }: Pick<RemoteOptions, 'precopy' | 'resume'>,
  folder: string,
): {
  readonly openSpool: (() => Promise<MirrorSpool>) | undefined;
  readonly mustSpool: boolean;
  readonly spoolPaths: readonly ForbiddenPath[];
} {
  const spoolPaths = [{ label: `the spool in ${folder}`, path: folder }];
  if (path === undefined) {
    const openSpool = precopy === false ? undefined : fileSpools(folder);
    return { openSpool, mustSpool: false, spoolPaths };
  }
  if (precopy === false) {
    throw new IngotError('request-invalid', 'without a pre-copy nothing can be gone on with');
  }
  spoolPaths.push({ label: path, path: dirname(resolve(path)) });
  return { openSpool: () => openPullFile(path), mustSpool: true, spoolPaths };
}

/** Logs in and opens the source that the flags name. */
export function openRemote(
  context: CliContext,
  url: string,
  options: RemoteOptions,
  forbiddenPaths: readonly ForbiddenPath[],
): ReturnType<typeof openRemoteSource> {
  const folder = spoolFolder(options.spool, undefined);
  // Nothing is drawn before the first report, so passwords can be asked for.
  const progress = context.progress('pull');
  const { openSpool, mustSpool, spoolPaths } = spoolRequest(options, folder);
  return openRemoteSource({
    url,
    source: options.source,
    sshArguments: options.sshArgs,
    freeSpace: options.verbatim === true ? 'keep' : options.freeSpace,
    freeze: options.freeze,
    limits: { maxFreezeMs: options.maxFreeze, maxStallMs: MAX_STALL_MS },
    wire: options.wire,
    askPassword: (attempt) => sudoPassword(context, url, attempt),
    openSpool,
    mustSpool,
    onProgress: progress.onProgress,
    onLiveEnd: () => progress[Symbol.dispose](),
    forbiddenPaths: [...forbiddenPaths, ...spoolPaths],
    signal: context.signal,
  });
}

/** Takes a snapshot of another machine into the library: chunks go to the daemon as they come in. */
export async function importRemote(
  context: CliContext,
  url: string,
  options: RemoteImportOptions,
): Promise<void> {
  const ancestorId = options.ancestor === undefined ? undefined : imageIdOf(options.ancestor);
  using client = openClient(context, options);
  // Before anybody logs in: a daemon that is not there ends it here.
  await client.login();
  const folder = spoolFolder(options.spool, undefined);
  const written = writtenWhileImporting(context, { folder, profile: options.profile });
  await using source = await openRemote(context, url, options, written);
  await importCapture(context, source, {
    ...options,
    client,
    spoolFolder: folder,
    description: {
      name: options.name,
      description: options.description ?? '',
      kind: 'snapshot',
      arch: options.arch ?? source.arch,
      ancestorId,
      compatibilityMode: false,
    },
  });
  await source.delivered();
}
