import { statSync } from 'node:fs';
import { IngotError, systemClock } from '../../base/index.ts';
import { readDiskMap } from '../../bytes/index.ts';
import { DiskSnapshot } from '../disk-snapshot.ts';
import type { FreezeLimits } from '../freeze.ts';
import { formatDeviceNumber } from '../mount-table.ts';
import type { SnapshotSource } from '../snapshot-source.ts';
import { openDirectReader } from './direct-reader.ts';
import { openFileSnapshot } from './file-snapshot.ts';
import { type FreezeMount, startFreezeGuard } from './freeze-guard.ts';
import { syncFilesystem } from './libc.ts';
import { type HeldSource, locateSource } from './locate-source.ts';
import { filesystemsBelowPath } from './mount-lookup.ts';
import { isVolume, type OpenVolume, openVolume } from './volume-snapshot.ts';

/** A path that is written while the source is frozen, so it must lie elsewhere. */
export interface ForbiddenPath {
  /** How people know it: `stdout`, `TMPDIR`, `the library`. */
  readonly label: string;
  /** An existing path, or a descriptor's (`/proc/self/fd/1`). */
  readonly path: string;
}

/** What to capture, and how. */
export interface SnapshotRequest {
  /** A mount point or any folder, a block device, or an image file. */
  readonly source: string;
  /** Undefined: zeros for what lives, verbatim for image files. */
  readonly freeSpace: 'zero' | 'keep' | undefined;
  /** False: what is mounted is read as it changes, and the image says `consistency: none`. */
  readonly freeze: boolean;
  readonly limits: FreezeLimits;
  readonly forbiddenPaths: readonly ForbiddenPath[];
}

function refuseTargetsOnSource(
  mounts: readonly FreezeMount[],
  forbidden: readonly ForbiddenPath[],
): void {
  for (const { label, path } of forbidden) {
    const below = filesystemsBelowPath(path);
    const mount = mounts.find(({ device }) => below.has(device));
    if (mount !== undefined) {
      throw new IngotError(
        'target-would-freeze',
        `${label} is written to the filesystem at ${mount.mountPoint}, which would be frozen`,
        { label, mountPoint: mount.mountPoint },
      );
    }
  }
}

/** A volume can be captured through its snapshot when a single filesystem lies on it as it is. */
async function openVolumeOf(
  { devicePath, mounts }: Extract<HeldSource, { kind: 'device' }>,
  limits: FreezeLimits,
): Promise<OpenVolume | undefined> {
  const [mount, other] = mounts;
  if (mount === undefined || other !== undefined || !isVolume(devicePath)) return undefined;
  // btrfs has a number of its own: its kernel would see two devices with one identity.
  const number = formatDeviceNumber(statSync(devicePath, { bigint: true }).rdev);
  return mount.device === number ? await openVolume(devicePath, limits) : undefined;
}

async function openDevice(
  held: Extract<HeldSource, { kind: 'device' }>,
  request: SnapshotRequest,
): Promise<SnapshotSource> {
  await using undo = new AsyncDisposableStack();
  undo.use(held);
  const { mounts, devicePath } = held;
  const willFreeze = request.freeze && mounts.length > 0;
  if (willFreeze) refuseTargetsOnSource(mounts, request.forbiddenPaths);
  const volume = willFreeze ? await openVolumeOf(held, request.limits) : undefined;
  if (volume !== undefined) undo.use(volume);
  const reader = volume?.reader ?? undo.use(await openDirectReader(devicePath));
  let guard = volume?.guard;
  if (willFreeze && guard === undefined) {
    guard = undo.use(
      await startFreezeGuard(mounts, { limits: request.limits, clock: systemClock }),
    );
  }
  return new DiskSnapshot({
    reader,
    guard,
    sync: async () => {
      for (const { fd } of mounts) await syncFilesystem(fd);
    },
    readMap: (disk, state) => readDiskMap(disk, { state, sectorBytes: reader.sectorBytes }),
    freeSpace: request.freeSpace ?? 'zero',
    unguarded: mounts.length > 0 ? 'none' : 'crash-consistent',
    isMounted: mounts.length > 0,
    isHeldElsewhere: volume !== undefined,
    source: request.source,
    notices: held.notices,
    owned: undo.move(),
  });
}

/**
 * Opens whatever a path is as a {@link SnapshotSource}.
 *
 * When it returns, everything that a freeze needs is open and the guard waits; nothing is frozen.
 *
 * @throws IngotError `source-not-found`, `source-unsupported`, `not-root`, `target-would-freeze`,
 *   `freeze-failed`, `source-unreadable`
 */
export async function openSnapshotSource(request: SnapshotRequest): Promise<SnapshotSource> {
  const held = locateSource(request.source);
  if (held.kind === 'device') return openDevice(held, request);
  return openFileSnapshot({
    path: held.path,
    freeSpace: request.freeSpace ?? 'keep',
    readMap: (disk, state) => readDiskMap(disk, { state }),
  });
}
