import { IngotError } from '../../base/index.ts';
import { type MountEntry, mountOption } from '../mount-table.ts';
import type { DeviceFacts, RemoteBlock, RemoteVolume } from './device-facts.ts';
import type { FreezePlan } from './device-session.ts';

/** The guard holds each mount by a descriptor of one digit, 5 to 9, the shell's own. */
const MAX_FROZEN_MOUNTS = 5;

/** What a path on a device turned out to be. */
export interface RemoteSource {
  readonly devicePath: string;
  readonly sizeBytes: number;
  /** What has to be frozen; empty when nothing is mounted from it. */
  readonly mounts: readonly MountEntry[];
  /** The LVM volume that is the source, when its group has room for a snapshot. */
  readonly volume: RemoteVolume | undefined;
  readonly notices: readonly string[];
}

/** Looks at another path of the same device. */
export type LookAt = (path: string) => Promise<DeviceFacts>;

function unsupported(path: string, reason: string): IngotError {
  return new IngotError('source-unsupported', `${path} cannot be captured: ${reason}`, { path });
}

function isBelow(path: string, folder: string): boolean {
  return folder === '/' || path === folder || path.startsWith(`${folder}/`);
}

/**
 * The mount that a path lies on: the deepest mount point, and of several on one the last.
 *
 * A mount that hides others is not seen through; the guard compares mount ids before it freezes.
 */
function mountOf(mounts: readonly MountEntry[], path: string): MountEntry | undefined {
  let best: MountEntry | undefined;
  for (const entry of mounts) {
    if (!isBelow(path, entry.mountPoint)) continue;
    if (best === undefined || entry.mountPoint.length >= best.mountPoint.length) best = entry;
  }
  return best;
}

function blockOf(facts: DeviceFacts, number: string, path: string): RemoteBlock {
  const block = facts.blocks.find((one) => one.number === number);
  if (block === undefined) throw unsupported(path, `no block device has the number ${number}`);
  return block;
}

/** The device itself, its partitions, and what is built on them. */
function familyOf(facts: DeviceFacts, block: RemoteBlock): RemoteBlock[] {
  const family = new Set<RemoteBlock>();
  const visit = (one: RemoteBlock): void => {
    if (family.has(one)) return;
    family.add(one);
    for (const other of facts.blocks) {
      if (other.parent === one.name || one.holders.includes(other.name)) visit(other);
    }
  };
  visit(block);
  return [...family];
}

function mountsOf(facts: DeviceFacts, family: readonly RemoteBlock[]): MountEntry[] {
  const numbers = new Set(family.map(({ number }) => number));
  const paths = new Set(family.map(({ name }) => `/dev/${name}`));
  const found = new Map<string, MountEntry>();
  for (const entry of facts.mounts) {
    // btrfs has a device number of its own, and names its device as the source.
    const isOurs =
      entry.filesystem === 'btrfs' ? paths.has(entry.source) : numbers.has(entry.device);
    if (isOurs) found.set(entry.device, entry);
  }
  return [...found.values()];
}

/** An LVM snapshot of a btrfs would show its kernel two devices with one identity. */
function volumeFor(
  facts: DeviceFacts,
  block: RemoteBlock,
  mounts: readonly MountEntry[],
): RemoteVolume | undefined {
  if (mounts.length !== 1 || mounts[0]?.filesystem === 'btrfs') return undefined;
  return volumeWithRoom(facts, block.number);
}

/** Finds the LVM volume of a number, if its group has room for a snapshot. */
export function volumeWithRoom(
  facts: DeviceFacts,
  number: string | undefined,
): RemoteVolume | undefined {
  if (!facts.tools.has('lvcreate')) return undefined;
  return facts.volumes.find((volume) => volume.number === number && volume.freeExtents > 0);
}

/** Plans the snapshot of a volume. */
export function snapshotPlan(volume: RemoteVolume, sizeBytes: number): FreezePlan {
  const wholeVolume = Math.ceil(sizeBytes / volume.extentBytes);
  return {
    kind: 'lvm',
    group: volume.group,
    volume: volume.name,
    // A snapshot that runs full is lost, so it gets what there is; more than the volume is no use.
    extents: Math.min(volume.freeExtents, wholeVolume),
  };
}

async function locateFolder(
  facts: DeviceFacts,
  lookAt: LookAt,
): Promise<{ block: RemoteBlock; mount: MountEntry; notices: string[] }> {
  const { path } = facts;
  const mount = mountOf(facts.mounts, path);
  if (mount === undefined) throw unsupported(path, 'its mount is not in /proc/self/mountinfo');
  if (mount.filesystem === 'overlay') {
    const upper = mountOption(mount.superOptions, 'upperdir');
    if (upper === undefined) throw unsupported(path, 'its overlay has no upper layer');
    const below = await lookAt(upper);
    if (below.kind !== 'folder') {
      throw unsupported(path, `the upper layer ${upper} of its overlay is not visible`);
    }
    if (mountOf(below.mounts, below.path)?.filesystem === 'overlay') {
      throw unsupported(path, 'the upper layer of its overlay is an overlay');
    }
    const located = await locateFolder(below, lookAt);
    const notice = `${path} is an overlay; captured is the filesystem of its upper layer ${upper}`;
    return { ...located, notices: [notice] };
  }
  if (!mount.device.startsWith('0:')) {
    return { block: blockOf(facts, mount.device, path), mount, notices: [] };
  }
  if (mount.filesystem !== 'btrfs') {
    throw unsupported(path, `${mount.filesystem} lies on no block device`);
  }
  const device = await lookAt(mount.source);
  if (device.number === undefined) throw unsupported(path, `${mount.source} is no block device`);
  return { block: blockOf(device, device.number, path), mount, notices: [] };
}

/**
 * Finds out what has to be read and frozen for a path on a device.
 *
 * A folder stands for the filesystem that it lies on.
 *
 * @throws IngotError `source-not-found`, `source-unsupported`, `tool-missing`
 */
export async function locateRemote(path: string, lookAt: LookAt): Promise<RemoteSource> {
  const facts = await lookAt(path);
  if (facts.kind === 'missing') {
    throw new IngotError('source-not-found', `${path} is not there`, { path });
  }
  if (facts.kind === 'file') throw unsupported(path, 'it is a file; copy it with scp');
  if (!facts.tools.has('dd')) throw new IngotError('tool-missing', 'the device has no dd');
  let block: RemoteBlock;
  let mounts: readonly MountEntry[];
  let notices: readonly string[] = [];
  if (facts.number === undefined) {
    const located = await locateFolder(facts, lookAt);
    ({ block, notices } = located);
    mounts = [located.mount];
  } else {
    block = blockOf(facts, facts.number, path);
    mounts = mountsOf(facts, familyOf(facts, block));
  }
  if (mounts.length > MAX_FROZEN_MOUNTS) {
    throw unsupported(path, `${mounts.length} filesystems would have to be frozen together`);
  }
  return {
    devicePath: `/dev/${block.name}`,
    sizeBytes: block.sizeBytes,
    mounts,
    volume: volumeFor(facts, block, mounts),
    notices,
  };
}
