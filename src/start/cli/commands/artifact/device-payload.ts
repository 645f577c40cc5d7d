import { closeSync, constants, openSync, realpathSync, type Stats } from 'node:fs';
import { tmpdir } from 'node:os';
import { IngotError } from '../../../../base/index.ts';
import { mountOf, readMountTable } from '../../../../capture/adapters/mount-lookup.ts';
import { openRemoteSource } from '../../../../capture/adapters/open-remote-source.ts';
import {
  type ForbiddenPath,
  openSnapshotSource,
} from '../../../../capture/adapters/open-snapshot-source.ts';
import { formatDeviceNumber, MAX_STALL_MS } from '../../../../capture/index.ts';
import { snapshotPayload } from '../../../../publish/index.ts';
import { spoolRequest, sudoPassword } from '../../support/remote-source.ts';
import { writtenWhileFrozen } from '../../support/snapshot-output.ts';
import type { RootfsPayload, RootfsPayloadSetup } from './rootfs-source.ts';

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
export async function openRemoteDevice(
  url: string,
  setup: RootfsPayloadSetup,
): Promise<RootfsPayload> {
  const { context, sshArgs = [] } = setup;
  const { openSpool, mustSpool, spoolPaths } = spoolRequest(setup, setup.tmp ?? tmpdir());
  await using undo = new AsyncDisposableStack();
  const source = await openRemoteSource({
    url,
    source: setup.source,
    sshArguments: sshArgs,
    freeSpace: 'zero',
    freeze: setup.freeze,
    limits: { maxFreezeMs: setup.maxFreeze, maxStallMs: MAX_STALL_MS },
    wire: setup.wire,
    askPassword: (attempt) => sudoPassword(context, url, attempt),
    openSpool,
    mustSpool,
    forbiddenPaths: [...writtenMeanwhile(setup), ...spoolPaths],
    signal: context.signal,
  });
  undo.use(source);
  const provides = await source.provides();
  const owned = undo.move();
  return {
    plain: snapshotPayload(source, 'rootfs.ext4'),
    coded: undefined,
    isReadOnce: true,
    provides,
    delivered: () => source.delivered(),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
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
export async function openMounted(
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
    freeze: setup.freeze,
    limits: { maxFreezeMs: setup.maxFreeze, maxStallMs: MAX_STALL_MS },
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
