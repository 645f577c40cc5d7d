import { closeSync, constants, openSync, realpathSync, type Stats } from 'node:fs';
import { stat } from 'node:fs/promises';
import { IngotError, isId } from '../../../../base/index.ts';
import { mountOf, readMountTable } from '../../../../capture/adapters/mount-lookup.ts';
import { openRemoteSource } from '../../../../capture/adapters/open-remote-source.ts';
import {
  type ForbiddenPath,
  openSnapshotSource,
} from '../../../../capture/adapters/open-snapshot-source.ts';
import {
  formatDeviceNumber,
  MAX_STALL_MS,
  type SnapshotSource,
} from '../../../../capture/index.ts';
import { type ArtifactPayload, snapshotPayload } from '../../../../publish/index.ts';
import { openRemotePayload, type RemotePayload } from '../../../client/coded-image.ts';
import type { CliContext } from '../../context.ts';
import { openClient } from '../../support/daemon-access.ts';
import { sudoPassword } from '../../support/remote-source.ts';
import { writtenWhileFrozen } from '../../support/snapshot-output.ts';
import { asBuffers, openPipe, openRootfsFile } from './payload-file.ts';

/** What opening a payload may need. */
interface RootfsPayloadSetup {
  readonly context: CliContext;
  readonly profile?: string | undefined;
  readonly sshArgs?: readonly string[] | undefined;
  /** A folder of the filesystem, or a block device, of a device over ssh. */
  readonly source: string;
  /** Where the artifact goes. */
  readonly outputPath: string;
  /** Where a payload is put that must be read twice. */
  readonly tmp?: string | undefined;
}

/** A root filesystem: to be coded, or as segments that are there already too. */
export interface RootfsPayload extends AsyncDisposable {
  readonly plain: ArtifactPayload;
  readonly coded: RemotePayload | undefined;
  /** Whether it cannot be read to find its digest, and again to be written. */
  readonly isReadOnce: boolean;
  /** What is frozen while it is read; undefined where nothing of this machine is. */
  readonly live?: SnapshotSource | undefined;
}

async function openImage(id: string, setup: RootfsPayloadSetup): Promise<RootfsPayload> {
  if (!isId('img', id)) throw new IngotError('image-not-found', `${id} is no image id`);
  using undo = new DisposableStack();
  const client = undo.use(openClient(setup.context, setup));
  const coded = await openRemotePayload(client, id);
  const { name, sizeBytes } = coded;
  const kept = undo.move();
  return {
    plain: {
      name,
      mode: 0o644,
      isAugmented: false,
      sizeBytes,
      open: () => asBuffers(coded.openPlain()),
    },
    coded,
    isReadOnce: false,
    [Symbol.asyncDispose]: () => Promise.resolve(kept.dispose()),
  };
}

/** What is written while something is frozen: the artifact, words, and the spool. */
function writtenMeanwhile({ outputPath, tmp }: RootfsPayloadSetup): ForbiddenPath[] {
  return [
    ...writtenWhileFrozen(outputPath === '-' ? undefined : outputPath),
    ...(tmp === undefined ? [] : [{ label: `the spool in ${tmp}`, path: tmp }]),
  ];
}

/**
 * Opens a device over ssh; it is frozen when the payload is read, and thawed after.
 *
 * The file is called by its filesystem, as that of a dump would be: both give the same artifact.
 */
async function openRemoteDevice(url: string, setup: RootfsPayloadSetup): Promise<RootfsPayload> {
  const { context, sshArgs = [] } = setup;
  const source = await openRemoteSource({
    url,
    source: setup.source,
    sshArguments: sshArgs,
    freeSpace: 'zero',
    freeze: true,
    limits: { maxFreezeMs: undefined, maxStallMs: MAX_STALL_MS },
    wire: 'auto',
    askPassword: (attempt) => sudoPassword(context, url, attempt),
    forbiddenPaths: writtenMeanwhile(setup),
    signal: context.signal,
  });
  return {
    plain: snapshotPayload(source, 'rootfs.ext4'),
    coded: undefined,
    isReadOnce: true,
    [Symbol.asyncDispose]: () => source[Symbol.asyncDispose](),
  };
}

/** The filesystem that is mounted at a folder, or from a device. */
function mountedFilesystem(path: string, status: Stats): string | undefined {
  if (status.isBlockDevice()) {
    const device = formatDeviceNumber(BigInt(status.rdev));
    return readMountTable().find((entry) => entry.device === device)?.filesystem;
  }
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    const mount = mountOf(fd);
    return mount?.mountPoint === realpathSync(path) ? mount.filesystem : undefined;
  } finally {
    closeSync(fd);
  }
}

/**
 * Opens what is mounted on this machine, to be read while it is frozen.
 *
 * @returns undefined for a device that nothing is mounted from
 * @throws IngotError `source-unsupported` for a folder that is no mount point
 */
async function openMounted(
  path: string,
  status: Stats,
  setup: RootfsPayloadSetup,
): Promise<RootfsPayload | undefined> {
  const filesystem = mountedFilesystem(path, status);
  if (filesystem === undefined && status.isDirectory()) {
    throw new IngotError(
      'source-unsupported',
      `${path} is a folder and no mount point: no filesystem of its own`,
      { path },
    );
  }
  await using undo = new AsyncDisposableStack();
  const source = await openSnapshotSource({
    source: path,
    freeSpace: 'zero',
    freeze: true,
    limits: { maxFreezeMs: undefined, maxStallMs: MAX_STALL_MS },
    forbiddenPaths: writtenMeanwhile(setup),
  });
  undo.use(source);
  if (!source.mayChange) return undefined;
  const owned = undo.move();
  return {
    plain: snapshotPayload(source, `rootfs.${filesystem ?? 'img'}`),
    coded: undefined,
    isReadOnce: true,
    live: source,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function statusOf(path: string): Promise<Stats | undefined> {
  // What cannot be looked at cannot be read either, and that failure says more.
  return await stat(path).catch(() => undefined);
}

/**
 * Opens what `-f` of `write rootfs-image` names: a file, a pipe, an image of the library, a device
 * over ssh, or what is mounted here.
 *
 * @throws IngotError the failures of files, of the daemon, of ssh and of captures
 */
export async function openRootfsPayload(
  source: string,
  setup: RootfsPayloadSetup,
): Promise<RootfsPayload> {
  if (source.startsWith('ssh://')) return await openRemoteDevice(source, setup);
  if (isId('img', source)) return await openImage(source, setup);
  const status = source === '-' ? undefined : await statusOf(source);
  if (status?.isDirectory() === true || status?.isBlockDevice() === true) {
    const mounted = await openMounted(source, status, setup);
    if (mounted !== undefined) return mounted;
  }
  const isPipe = source === '-' || status?.isFIFO() === true || status?.isSocket() === true;
  return {
    plain: isPipe
      ? openPipe(source, setup.context.stdin as AsyncIterable<Buffer>)
      : await openRootfsFile(source),
    coded: undefined,
    isReadOnce: isPipe,
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}
