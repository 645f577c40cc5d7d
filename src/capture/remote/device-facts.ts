import { IngotError } from '../../base/index.ts';
import { type MountEntry, parseMountInfo } from '../mount-table.ts';

/** A block device as the device's kernel lists it. */
export interface RemoteBlock {
  /** `major:minor`. */
  readonly number: string;
  readonly sizeBytes: number;
  /** Below /dev. */
  readonly name: string;
  /** The disk of a partition, by its name. */
  readonly parent: string | undefined;
  /** What is built on it (device-mapper, md), by name. */
  readonly holders: readonly string[];
}

/** An LVM volume, and what its group could still give to a snapshot. */
export interface RemoteVolume {
  readonly group: string;
  readonly name: string;
  readonly freeExtents: number;
  readonly extentBytes: number;
  /** `major:minor` of the volume. */
  readonly number: string;
}

/** What `look` told about a device and one path on it. */
export interface DeviceFacts {
  readonly bootId: string;
  /** As `uname -m` has it: `x86_64`, `aarch64`, … */
  readonly arch: string;
  readonly tools: ReadonlySet<string>;
  readonly kind: 'device' | 'folder' | 'file' | 'missing';
  /** Absolute, with links resolved. */
  readonly path: string;
  /** `major:minor` where the path is a block device. */
  readonly number: string | undefined;
  readonly blocks: readonly RemoteBlock[];
  readonly volumes: readonly RemoteVolume[];
  readonly mounts: readonly MountEntry[];
}

const SECTOR_BYTES = 512;

function parseBlock(words: readonly string[]): RemoteBlock | undefined {
  const [, number, sectors, name, parent, holders] = words;
  const sizeBytes = Number(sectors) * SECTOR_BYTES;
  if (!number || !name || !parent || !holders || !Number.isSafeInteger(sizeBytes)) return undefined;
  return {
    number,
    sizeBytes,
    name,
    // sysfs writes `!` for the slash in a name such as cciss/c0d0.
    parent: parent === '-' ? undefined : parent.replaceAll('!', '/'),
    holders: holders === '-' ? [] : holders.replaceAll('!', '/').split(','),
  };
}

function parseVolume(words: readonly string[]): RemoteVolume | undefined {
  const [, group, name, free, extent, number] = words;
  const freeExtents = Number(free);
  const extentBytes = Number(extent);
  if (!group || !name || !number || !(freeExtents >= 0) || !(extentBytes > 0)) return undefined;
  // The names go into a command line of the device: only what lvm allows (lvm(8), VALID NAMES).
  if (![group, name].every((text) => /^[a-zA-Z0-9+_.][a-zA-Z0-9+_.-]*$/.test(text))) {
    return undefined;
  }
  return { group, name, freeExtents, extentBytes, number };
}

function present<T>(value: T | undefined): value is T {
  return value !== undefined;
}

/**
 * Parses the answer to `look`. Rows that break their form are left out.
 *
 * @throws IngotError `frame-malformed` when a line that must be there is not
 * @see docs/formats/pull-protocol.md "Facts"
 */
export function parseDeviceFacts(text: string): DeviceFacts {
  const split = text.indexOf('\nmounts\n');
  const head = text.slice(0, split).split('\n');
  const one = (key: string): string => {
    const line = head.find((row) => row.startsWith(`${key} `));
    if (line === undefined || split < 0) {
      throw new IngotError('frame-malformed', `the device did not tell its ${key}`);
    }
    return line.slice(key.length + 1);
  };
  const rows = (key: string): string[][] =>
    head.map((row) => row.split(/ +/)).filter(([first]) => first === key);
  const kinds = ['device', 'folder', 'file', 'missing'] as const;
  const kind = kinds.find((name) => name === one('kind'));
  if (kind === undefined) throw new IngotError('frame-malformed', `a path is a ${one('kind')}`);
  const number = one('number');
  return {
    bootId: one('boot'),
    arch: one('arch'),
    tools: new Set((head.find((row) => row.startsWith('tools')) ?? '').split(' ').slice(1)),
    kind,
    path: one('path'),
    number: number === '-' ? undefined : number,
    blocks: rows('block').map(parseBlock).filter(present),
    volumes: rows('lv').map(parseVolume).filter(present),
    mounts: parseMountInfo(text.slice(split + '\nmounts\n'.length)),
  };
}

/** A device may say more than an artifact can carry. */
const MAX_PROVIDES = 64;
const MAX_PROVIDE_CHARACTERS = 512;

/**
 * Parses the answer to `provides`: what the installed root filesystem is.
 *
 * @returns the lines of `rootfs-image.`; others say nothing about the filesystem that is copied
 */
export function parseDeviceProvides(text: string): ReadonlyMap<string, string> {
  const provides = new Map<string, string>();
  for (const line of text.split('\n')) {
    const equals = line.indexOf('=');
    const isUsable =
      line.startsWith('rootfs-image.') && line.length <= MAX_PROVIDE_CHARACTERS && equals > 0;
    if (!isUsable || /\p{Cc}/u.test(line) || provides.size >= MAX_PROVIDES) continue;
    provides.set(line.slice(0, equals), line.slice(equals + 1));
  }
  return provides;
}

/** How an open device is read. */
export interface OpenedDevice {
  /** Whether dd there reads past the page cache. */
  readonly isDirect: boolean;
  /** The size of a block in that cache; 0: unknown. */
  readonly blockBytes: number;
  /** The disk's logical block size, where the kernel tells it. */
  readonly sectorBytes: number | undefined;
}

/** Parses the answer to `open`. */
export function parseOpenedDevice(text: string): OpenedDevice {
  const numberAt = (key: string): number =>
    Number(new RegExp(`^${key} (\\d{1,9})$`, 'm').exec(text)?.[1] ?? 0);
  const sectorBytes = numberAt('sector');
  return {
    isDirect: numberAt('direct') === 1,
    blockBytes: numberAt('block'),
    sectorBytes: sectorBytes === 0 ? undefined : sectorBytes,
  };
}
