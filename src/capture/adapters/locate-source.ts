import { closeSync, openSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { errnoOf, IngotError } from '../../base/index.ts';
import { formatDeviceNumber, type MountEntry, mountOption } from '../mount-table.ts';
import type { FreezeMount } from './freeze-guard.ts';
import { btrfsDeviceCount } from './libc.ts';
import { mountOf, readMountTable, sourceDeviceOf } from './mount-lookup.ts';

/** What a path turned out to be. */
type LocatedSource =
  | { readonly kind: 'file'; readonly path: string; readonly notices: readonly string[] }
  | {
      readonly kind: 'device';
      /** Opens for reading the device itself. */
      readonly devicePath: string;
      /** Everything that is mounted from it; empty when nothing is. */
      readonly mounts: readonly FreezeMount[];
      readonly notices: readonly string[];
    };

/** A source that can be located, with the descriptors that it holds open. */
export type HeldSource = LocatedSource & Disposable;

/** Filesystems that nothing can write to: there is nothing to freeze, and the kernel refuses to. */
const NEVER_WRITTEN: readonly string[] = ['squashfs', 'erofs', 'iso9660', 'cramfs', 'romfs'];

function unsupported(path: string, reason: string): IngotError {
  return new IngotError('source-unsupported', `${path} cannot be captured: ${reason}`, { path });
}

/**
 * Finds a device's node by its number, without udev's links.
 *
 * @see Documentation/ABI/testing/sysfs-block: `uevent` has DEVNAME
 */
function devicePathOf(device: string, path: string): string {
  let name: string | undefined;
  try {
    const facts = readFileSync(`/sys/dev/block/${device}/uevent`, 'utf8');
    name = /^DEVNAME=(.+)$/m.exec(facts)?.[1];
  } catch (thrown) {
    throw unsupported(path, `no block device has the number ${device} (${errnoOf(thrown)})`);
  }
  const node = `/dev/${name}`;
  let found: string | undefined;
  try {
    const stat = statSync(node, { bigint: true });
    found = stat.isBlockDevice() ? formatDeviceNumber(stat.rdev) : undefined;
  } catch (thrown) {
    throw unsupported(path, `its device ${node} is not there (${errnoOf(thrown)})`);
  }
  if (found !== device) throw unsupported(path, `${node} is not the device ${device}`);
  return node;
}

/** The device itself, its partitions, and what device-mapper, md or loop has built on them. */
function deviceFamily(device: string): Set<string> {
  const family = new Set<string>();
  const visit = (name: string): void => {
    if (family.has(name)) return;
    family.add(name);
    const folder = `/sys/dev/block/${name}`;
    for (const child of listFolder(folder)) {
      const isPartition = listFolder(`${folder}/${child}`).includes('partition');
      if (isPartition) visit(readFileSync(`${folder}/${child}/dev`, 'utf8').trim());
    }
    for (const holder of listFolder(`${folder}/holders`)) {
      visit(readFileSync(`${folder}/holders/${holder}/dev`, 'utf8').trim());
    }
  };
  visit(device);
  return family;
}

function listFolder(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

/** A filesystem without a device number of its own (btrfs, overlay): which device holds it. */
function deviceBehind(mount: MountEntry, fd: number, path: string): string {
  if (!mount.device.startsWith('0:')) return mount.device;
  if (mount.filesystem !== 'btrfs') {
    throw unsupported(path, `${mount.filesystem} lies on no block device`);
  }
  const devices = btrfsDeviceCount(fd);
  if (devices !== 1) throw unsupported(path, `its btrfs spans ${devices} devices`);
  const device = sourceDeviceOf(mount);
  if (device === undefined) throw unsupported(path, `its device ${mount.source} is not there`);
  return device;
}

/** Opens the mounts of some devices, one descriptor for each filesystem. */
function openMounts(family: ReadonlySet<string>, path: string): FreezeMount[] {
  const table = readMountTable();
  const wanted = new Map<string, MountEntry[]>();
  for (const entry of table) {
    const isBtrfs = entry.filesystem === 'btrfs';
    const device = isBtrfs ? sourceDeviceOf(entry) : entry.device;
    if (device === undefined || !family.has(device)) continue;
    if (NEVER_WRITTEN.includes(entry.filesystem)) continue;
    wanted.set(entry.device, [...(wanted.get(entry.device) ?? []), entry]);
  }
  const opened: FreezeMount[] = [];
  try {
    for (const [device, entries] of wanted) {
      const mount = openReachable(entries, table);
      if (mount === undefined) {
        throw new IngotError(
          'freeze-failed',
          `${path} is mounted at ${entries[0]?.mountPoint}, but another mount covers it, so it cannot be frozen`,
          { path, device },
        );
      }
      opened.push(mount);
    }
    return opened;
  } catch (thrown) {
    for (const { fd } of opened) closeSync(fd);
    throw thrown;
  }
}

/** Opens the first of a filesystem's mounts whose path still leads to it. */
function openReachable(
  entries: readonly MountEntry[],
  table: readonly MountEntry[],
): FreezeMount | undefined {
  for (const { mountPoint, device } of entries) {
    let fd: number;
    try {
      fd = openSync(mountPoint, 'r');
    } catch {
      continue; // Gone or not permitted; another mount may do.
    }
    if (mountOf(fd, table)?.device === device) return { fd, mountPoint, device };
    closeSync(fd);
  }
  return undefined;
}

/** The filesystem that a folder lies on; for an overlay the one of its upper layer. */
function locateFolder(
  path: string,
  notices: string[],
): { devicePath: string; mounts: FreezeMount[] } {
  const fd = openSync(path, 'r');
  try {
    const mount = mountOf(fd);
    if (mount === undefined) throw unsupported(path, 'its mount is not in /proc/self/mountinfo');
    if (mount.filesystem === 'overlay') {
      const upper = mountOption(mount.superOptions, 'upperdir');
      if (upper === undefined) throw unsupported(path, 'its overlay has no upper layer');
      const below = openUpper(upper, path);
      closeSync(fd);
      notices.push(`${path} is an overlay; captured is the filesystem of its upper layer ${upper}`);
      return below;
    }
    const devicePath = devicePathOf(deviceBehind(mount, fd, path), path);
    if (NEVER_WRITTEN.includes(mount.filesystem)) {
      closeSync(fd);
      return { devicePath, mounts: [] };
    }
    return { devicePath, mounts: [{ fd, mountPoint: mount.mountPoint, device: mount.device }] };
  } catch (thrown) {
    closeQuietly(fd);
    throw thrown;
  }
}

function closeQuietly(fd: number): void {
  try {
    closeSync(fd);
  } catch (thrown) {
    if (errnoOf(thrown) !== 'EBADF') throw thrown;
  }
}

function openUpper(upper: string, path: string): { devicePath: string; mounts: FreezeMount[] } {
  let stat: ReturnType<typeof statSync>;
  try {
    stat = statSync(upper);
  } catch (thrown) {
    throw new IngotError(
      'source-unsupported',
      `${path} is an overlay whose upper layer ${upper} is not visible from here`,
      { path, upper },
      { cause: thrown },
    );
  }
  if (!stat.isDirectory()) throw unsupported(path, `its upper layer ${upper} is no folder`);
  return locateFolder(upper, []);
}

/** Refuses an image file that a mounted loop device is changing. */
function refuseMountedImage(path: string): void {
  const { dev, ino } = statSync(path, { bigint: true });
  for (const name of listFolder('/sys/block')) {
    let backing: string;
    try {
      backing = readFileSync(`/sys/block/${name}/loop/backing_file`, 'utf8').trimEnd();
      const stat = statSync(backing, { bigint: true });
      if (stat.dev !== dev || stat.ino !== ino) continue;
    } catch {
      continue; // No loop device, or its file is gone.
    }
    const device = readFileSync(`/sys/block/${name}/dev`, 'utf8').trim();
    const family = deviceFamily(device);
    const mount = readMountTable().find((entry) =>
      family.has(entry.filesystem === 'btrfs' ? (sourceDeviceOf(entry) ?? '') : entry.device),
    );
    if (mount !== undefined) {
      throw unsupported(
        path,
        `it is mounted at ${mount.mountPoint} through /dev/${name}; give one of these as the source`,
      );
    }
  }
}

/**
 * Finds out what a source path is, and opens what has to be frozen for it.
 *
 * A folder stands for the filesystem that it lies on, whatever else covers it.
 *
 * @throws IngotError `source-not-found`, `source-unsupported`, `freeze-failed`, `not-root`
 */
export function locateSource(source: string): HeldSource {
  const path = resolve(source);
  const notices: string[] = [];
  try {
    const stat = statSync(path, { bigint: true });
    if (stat.isFile()) {
      refuseMountedImage(path);
      return { kind: 'file', path, notices, [Symbol.dispose]: () => undefined };
    }
    let located: { devicePath: string; mounts: FreezeMount[] };
    if (stat.isBlockDevice()) {
      const family = deviceFamily(formatDeviceNumber(stat.rdev));
      located = { devicePath: path, mounts: openMounts(family, path) };
    } else if (stat.isDirectory()) {
      located = locateFolder(path, notices);
    } else {
      throw unsupported(path, 'it is no folder, block device or file');
    }
    return {
      kind: 'device',
      ...located,
      notices,
      [Symbol.dispose]: () => {
        for (const { fd } of located.mounts.splice(0)) closeSync(fd);
      },
    };
  } catch (thrown) {
    const errno = errnoOf(thrown);
    if (thrown instanceof IngotError || errno === undefined) throw thrown;
    const code = errno === 'EACCES' || errno === 'EPERM' ? 'not-root' : 'source-not-found';
    throw new IngotError(code, `${path} cannot be opened: ${errno}`, { path }, { cause: thrown });
  }
}
