import { execFile } from 'node:child_process';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { errnoOf } from '../../../base/index.ts';

/** A device that does not answer is not waited for: its contents are a courtesy. */
const BLKID_TIMEOUT_MS = 5000;

/** What `/sys` counts in, whatever the device's own blocks are. */
const SECTOR_BYTES = 512;

/** Formats a device number as `/proc` and `/sys` have it: `8:1`. */
export function deviceNumber(device: bigint): string {
  // The layout of a 64-bit dev_t of the C library: see makedev(3).
  const major = ((device >> 8n) & 0xfffn) | ((device >> 32n) & ~0xfffn);
  const minor = (device & 0xffn) | ((device >> 12n) & ~0xffn & 0xffffffffn);
  return `${major}:${minor}`;
}

function readSmall(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch (thrown) {
    if (['ENOENT', 'ENOTDIR', 'EACCES', 'EINVAL'].includes(errnoOf(thrown) ?? '')) return undefined;
    throw thrown;
  }
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return []; // Devices without holders or partitions have no such folder.
  }
}

/** Folder of the device in `/sys`; a partition's limits are those of its disk. */
function sysFolder(device: string): string {
  return `/sys/dev/block/${device}`;
}

/** Tells whether the device zeroes a range without being sent the zeros. */
export function writesZeroesByItself(device: string): boolean {
  const folder = sysFolder(device);
  const limit =
    readSmall(`${folder}/queue/write_zeroes_max_bytes`) ??
    readSmall(`${folder}/../queue/write_zeroes_max_bytes`);
  return limit !== undefined && Number(limit) > 0;
}

/**
 * Looks up a loop device, or a partition of one, that goes through the page cache of its file.
 *
 * @returns the path of the file as the kernel knows it, and where the partition begins on the device
 *   (0 for a whole one); undefined for every other device
 */
export function cachedLoopOf(
  device: string,
): { readonly path: string; readonly partitionStartBytes: number } | undefined {
  const folder = sysFolder(device);
  const start = readSmall(`${folder}/start`);
  const loop = start === undefined ? `${folder}/loop` : `${folder}/../loop`;
  const path = readSmall(`${loop}/backing_file`);
  if (path === undefined || readSmall(`${loop}/dio`) !== '0') return undefined;
  return { path, partitionStartBytes: Number(start ?? 0) * SECTOR_BYTES };
}

/** @returns the numbers of the partitions of a disk */
function partitionsOf(device: string): { readonly device: string; readonly name: string }[] {
  const disk = sysFolder(device);
  return namesIn(disk).flatMap((name) => {
    if (readSmall(`${disk}/${name}/partition`) === undefined) return [];
    const number = readSmall(`${disk}/${name}/dev`);
    return number === undefined ? [] : [{ device: number, name }];
  });
}

/** The kernel writes blanks and backslashes of a path as `\040` and the like. */
function unescapeOctal(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
}

/**
 * Lists what uses a block device or one of its partitions.
 *
 * @returns phrases for people, such as `mounted at /boot`; empty when nothing is seen from here
 */
export async function usersOf(path: string): Promise<string[]> {
  const own = deviceNumber((await stat(path, { bigint: true })).rdev);
  const devices = new Map([[own, basename(path)]]);
  for (const partition of partitionsOf(own)) devices.set(partition.device, partition.name);
  const users: string[] = [];
  for (const line of (readSmall('/proc/self/mountinfo') ?? '').split('\n')) {
    const [, , device = '', , mountPoint = ''] = line.split(' ');
    if (devices.has(device)) users.push(`mounted at ${unescapeOctal(mountPoint)}`);
  }
  for (const line of (readSmall('/proc/swaps') ?? '').split('\n').slice(1)) {
    const swap = unescapeOctal(line.split(/\s/)[0] ?? '');
    if (swap.startsWith('/') && devices.has(await deviceOf(swap))) users.push('used as swap');
  }
  for (const device of devices.keys()) {
    const holders = namesIn(`${sysFolder(device)}/holders`);
    if (holders.length > 0) users.push(`a part of ${holders.join(' and ')}`);
  }
  return [...new Set(users)];
}

async function deviceOf(path: string): Promise<string> {
  try {
    return deviceNumber((await stat(path, { bigint: true })).rdev);
  } catch {
    return ''; // A swap file that is deleted or lies in another namespace.
  }
}

/** What a user should know before a device is overwritten. */
interface DeviceFacts {
  /** `Samsung SSD 860`, or undefined. */
  readonly model: string | undefined;
  readonly isRemovable: boolean;
  /** Names of its partitions: `sdb1`. */
  readonly partitions: readonly string[];
  /** What lies on it: `ext4 "rootfs"`, `a gpt partition table`; undefined when nothing is known. */
  readonly contents: string | undefined;
}

/** Looks up what the kernel knows of a block device. */
export async function lookUpDevice(path: string): Promise<DeviceFacts> {
  const device = deviceNumber((await stat(path, { bigint: true })).rdev);
  const folder = sysFolder(device);
  return {
    model: readSmall(`${folder}/device/model`) ?? readSmall(`${folder}/../device/model`),
    isRemovable: readSmall(`${folder}/removable`) === '1',
    partitions: partitionsOf(device).map(({ name }) => name),
    contents: await contentsOf(path),
  };
}

/** Asks blkid(8), where there is one, by reading the device itself and no cache. */
function contentsOf(path: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const argv = ['--probe', '--output', 'export', '--', path];
    execFile('blkid', argv, { timeout: BLKID_TIMEOUT_MS }, (error, stdout) => {
      if (error !== null) {
        // Not installed, or nothing found: then nothing is known.
        resolve(undefined);
        return;
      }
      const tags = new Map(
        stdout.split('\n').map((line): [string, string] => {
          const equals = line.indexOf('=');
          return [line.slice(0, equals), line.slice(equals + 1)];
        }),
      );
      const type = tags.get('TYPE');
      const table = tags.get('PTTYPE');
      const label = tags.get('LABEL');
      if (type !== undefined)
        resolve(label === undefined ? type : `${type} ${JSON.stringify(label)}`);
      else resolve(table === undefined ? undefined : `a ${table} partition table`);
    });
  });
}

/**
 * Finds the loop device that a file is behind.
 *
 * @returns its path, or undefined
 */
export function loopDeviceOver(file: {
  readonly dev: bigint;
  readonly ino: bigint;
}): string | undefined {
  for (const name of namesIn('/sys/block')) {
    if (!name.startsWith('loop')) continue;
    const path = readSmall(`/sys/block/${name}/loop/backing_file`);
    if (path !== undefined && isSameFile(path, file)) return `/dev/${name}`;
  }
  return undefined;
}

function isSameFile(path: string, file: { readonly dev: bigint; readonly ino: bigint }): boolean {
  try {
    const other = statSync(path, { bigint: true });
    return other.dev === file.dev && other.ino === file.ino;
  } catch {
    return false; // Deleted, or on a mount that is not seen from here.
  }
}
