import { closeSync, fstatSync, openSync, readFileSync, statSync } from 'node:fs';
import { errnoOf } from '../../base/index.ts';
import {
  formatDeviceNumber,
  type MountEntry,
  mountOption,
  parseMountInfo,
} from '../mount-table.ts';

/** Opens a path for its identity only, without reading it or waiting for a FIFO's writer. */
const O_PATH = 0o10000000;

/** @returns the mounts that this process sees */
export function readMountTable(): MountEntry[] {
  return parseMountInfo(readFileSync('/proc/self/mountinfo', 'utf8'));
}

/**
 * Finds the mount that an open descriptor lies on, whatever covers its path.
 *
 * @returns undefined for pipes, sockets and mounts of another namespace
 */
export function mountOf(
  fd: number,
  table: readonly MountEntry[] = readMountTable(),
): MountEntry | undefined {
  const info = readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8');
  const mountId = Number(/^mnt_id:\s*(\d+)$/m.exec(info)?.[1] ?? Number.NaN);
  return table.find((entry) => entry.mountId === mountId);
}

/** Filesystems of the kernel's own that have no block device, or several. */
const OWN_WITHOUT_DEVICE = new Set(['bcachefs', 'btrfs', 'overlay', 'ramfs', 'tmpfs', 'zfs']);

/**
 * Tells whether calls on an open file are answered by this kernel alone. On a network or by somebody's
 * program (FUSE) they may wait for ever, and a thread with them; even closing does.
 *
 * @returns false also where the mount belongs to another namespace
 */
export function isAnsweredByKernel(fd: number, table?: readonly MountEntry[]): boolean {
  const mount = mountOf(fd, table);
  if (mount === undefined || mount.filesystem.startsWith('fuse')) return false;
  // Major number 0: not over a block device.
  return !mount.device.startsWith('0:') || OWN_WITHOUT_DEVICE.has(mount.filesystem);
}

/**
 * The identity of the filesystem that a descriptor lies on: `major:minor` of its super block.
 *
 * `st_dev` alone is not enough: each btrfs subvolume has its own.
 */
export function superBlockOf(fd: number): string {
  return mountOf(fd)?.device ?? formatDeviceNumber(fstatSync(fd, { bigint: true }).dev);
}

/** @returns the number of the block device that a mount names as its source, where it names one */
export function sourceDeviceOf(entry: MountEntry): string | undefined {
  if (!entry.source.startsWith('/')) return undefined;
  try {
    const stat = statSync(entry.source, { bigint: true });
    return stat.isBlockDevice() ? formatDeviceNumber(stat.rdev) : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Tells one disk from the next under the same number: each time that a disk, card or loop device is
 * attached, the kernel gives it the next number of this sequence.
 *
 * @returns undefined where no block device is, or the kernel is older than 5.15
 * @see Documentation/ABI/stable/sysfs-block `diskseq`
 */
export function diskSequenceOf(entry: MountEntry): string | undefined {
  const device = entry.device.startsWith('0:') ? sourceDeviceOf(entry) : entry.device;
  if (device === undefined) return undefined;
  // A partition has that of its disk.
  for (const folder of [device, `${device}/..`]) {
    try {
      return readFileSync(`/sys/dev/block/${folder}/diskseq`, 'latin1').trim();
    } catch (thrown) {
      if (!['ENOENT', 'ENOTDIR'].includes(errnoOf(thrown) ?? '')) throw thrown;
    }
  }
  return undefined;
}

/** @returns the path of the file behind a loop device, or undefined */
function loopBackingFile(device: string): string | undefined {
  try {
    return readFileSync(`/sys/dev/block/${device}/loop/backing_file`, 'utf8').trimEnd();
  } catch {
    return undefined;
  }
}

/**
 * Lists the filesystems that a write through `fd` may have to wait for: its own, those of an
 * overlay's upper layer, and those that hold the file behind a loop device.
 */
function filesystemsBelow(fd: number): Set<string> {
  const found = new Set<string>();
  const table = readMountTable();
  const visitPath = (path: string, depth: number): void => {
    let below: number;
    try {
      below = openSync(path, O_PATH);
    } catch {
      return; // Not visible from here.
    }
    try {
      visit(below, depth);
    } finally {
      closeSync(below);
    }
  };
  const visit = (descriptor: number, depth: number): void => {
    const mount = mountOf(descriptor, table);
    const device = mount?.device ?? formatDeviceNumber(fstatSync(descriptor, { bigint: true }).dev);
    if (found.has(device) || depth > 8) return;
    found.add(device);
    const backing = loopBackingFile(device);
    if (backing !== undefined) visitPath(backing, depth + 1);
    const upper =
      mount?.filesystem === 'overlay' ? mountOption(mount.superOptions, 'upperdir') : undefined;
    if (upper !== undefined) visitPath(upper, depth + 1);
  };
  visit(fd, 0);
  return found;
}

/** The same for a path, which may be a descriptor's (`/proc/self/fd/1`). */
export function filesystemsBelowPath(path: string): Set<string> {
  const fd = openSync(path, O_PATH);
  try {
    return filesystemsBelow(fd);
  } finally {
    closeSync(fd);
  }
}
