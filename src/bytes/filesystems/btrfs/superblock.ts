import { createHash } from 'node:crypto';
import { crc32c } from '../checksums.ts';
import { malformed } from '../metadata-reader.ts';

export const SUPERBLOCK_BYTES = 4096;
/** Where the superblock and its copies lie, as far as the device reaches. */
export const SUPERBLOCK_OFFSETS = [65_536, 64 * 1024 * 1024, 256 * 1024 * 1024 * 1024] as const;

/** Superblock flags: written, relocated. Seeds, dumps and changes under way are not read. */
const KNOWN_FLAGS = 0x3n;
/** free_space_tree, free_space_tree_valid, verity, block_group_tree */
const KNOWN_COMPAT_RO = 0xfn;
/**
 * mixed_backref, default_subvol, mixed_groups, compress_lzo, compress_zstd, big_metadata,
 * extended_iref, skinny_metadata, no_holes, metadata_uuid, simple_quota
 */
const KNOWN_INCOMPAT = 0x1077fn;
const METADATA_UUID = 0x400n;

/** How nodes are checked; `unchecked` stands for kinds that Node has no function for. */
export type NodeChecksum = 'crc32c' | 'sha256' | 'unchecked';

/** A tree as its parent names it. */
export interface TreePointer {
  readonly logical: number;
  readonly level: number;
  readonly generation: bigint;
}

/** What the superblock of a single-device btrfs says. */
export interface BtrfsSuperblock {
  readonly checksum: NodeChecksum;
  readonly nodeBytes: number;
  readonly sectorBytes: number;
  readonly deviceId: bigint;
  readonly deviceBytes: number;
  /** All extents together, each counted once. */
  readonly usedBytes: number;
  /** What the headers of tree nodes must hold. */
  readonly nodeUuid: Buffer;
  readonly rootTree: TreePointer;
  readonly chunkTree: TreePointer;
  /** Data that was synced after the last commit lies in a log that no other tree knows. */
  readonly hasLog: boolean;
  /** The chunks that hold the chunk tree. */
  readonly systemChunks: Buffer;
}

/**
 * Reads the superblock.
 *
 * @param bytes the 4096 bytes at 64 KiB
 * @param sizeBytes the device's size: the filesystem must lie inside
 * @throws IngotError `filesystem-malformed` when a number is impossible, a flag is not known, or
 *   there is more than one device
 * @see docs/formats/disk-maps.md
 */
export function parseBtrfsSuperblock(bytes: Buffer, sizeBytes: number): BtrfsSuperblock {
  const checksum = checksumKind(bytes.readUInt16LE(0xc4));
  if (!isChecksumRight(bytes, checksum)) throw malformed('the checksum of the superblock is wrong');
  checkFlags(bytes);
  const number = (at: number): number => Number(bytes.readBigUInt64LE(at));
  const incompat = bytes.readBigUInt64LE(0xbc);
  const uuidAt = (incompat & METADATA_UUID) === 0n ? 0x20 : 0x23b;
  const superblock: BtrfsSuperblock = {
    checksum,
    nodeBytes: bytes.readUInt32LE(0x94),
    sectorBytes: bytes.readUInt32LE(0x90),
    deviceId: bytes.readBigUInt64LE(0xc9),
    deviceBytes: number(0xc9 + 8),
    usedBytes: number(0x78),
    nodeUuid: Buffer.from(bytes.subarray(uuidAt, uuidAt + 16)),
    rootTree: {
      logical: number(0x50),
      level: bytes.readUInt8(0xc6),
      generation: bytes.readBigUInt64LE(0x48),
    },
    chunkTree: {
      logical: number(0x58),
      level: bytes.readUInt8(0xc7),
      generation: bytes.readBigUInt64LE(0xa4),
    },
    hasLog: bytes.readBigUInt64LE(0x60) !== 0n,
    systemChunks: Buffer.from(bytes.subarray(0x32b, 0x32b + bytes.readUInt32LE(0xa0))),
  };
  checkGeometry(superblock, bytes, sizeBytes);
  return superblock;
}

/** Checks the checksum in the first 32 bytes of a superblock or a tree node. */
export function isChecksumRight(bytes: Buffer, kind: NodeChecksum): boolean {
  const covered = bytes.subarray(32);
  if (kind === 'crc32c') return ~crc32c(0xffffffff, covered) >>> 0 === bytes.readUInt32LE(0);
  if (kind === 'unchecked') return true;
  return createHash('sha256').update(covered).digest().equals(bytes.subarray(0, 32));
}

function checksumKind(type: number): NodeChecksum {
  const kinds: readonly NodeChecksum[] = ['crc32c', 'unchecked', 'sha256', 'unchecked'];
  const kind = kinds[type];
  if (kind === undefined) throw malformed(`checksum type ${type} is not known`);
  return kind;
}

function checkFlags(bytes: Buffer): void {
  const unknown = [
    [bytes.readBigUInt64LE(0x38) & ~KNOWN_FLAGS, 'super'],
    [bytes.readBigUInt64LE(0xb4) & ~KNOWN_COMPAT_RO, 'compat_ro'],
    [bytes.readBigUInt64LE(0xbc) & ~KNOWN_INCOMPAT, 'incompat'],
  ] as const;
  for (const [flags, name] of unknown) {
    if (flags !== 0n) throw malformed(`${name} flags 0x${flags.toString(16)} are not known`);
  }
  const devices = bytes.readBigUInt64LE(0x88);
  if (devices !== 1n) throw malformed(`it has ${devices} devices`);
}

function checkGeometry(sb: BtrfsSuperblock, bytes: Buffer, sizeBytes: number): void {
  const isPowerOfTwo = (value: number): boolean => value > 0 && (value & (value - 1)) === 0;
  const rules: readonly [boolean, string][] = [
    [bytes.readBigUInt64LE(0x30) === BigInt(SUPERBLOCK_OFFSETS[0]), 'it is a copy of another one'],
    [
      isPowerOfTwo(sb.nodeBytes) && sb.nodeBytes >= 4096 && sb.nodeBytes <= 65_536,
      `a node has ${sb.nodeBytes} bytes`,
    ],
    [
      isPowerOfTwo(sb.sectorBytes) && sb.sectorBytes >= 4096 && sb.sectorBytes <= sb.nodeBytes,
      `a sector has ${sb.sectorBytes} bytes`,
    ],
    [
      sb.deviceBytes > 0 && sb.deviceBytes <= sizeBytes,
      `its ${sb.deviceBytes} bytes are more than the device's ${sizeBytes}`,
    ],
    [sb.systemChunks.length <= 2048, `its first chunks have ${sb.systemChunks.length} bytes`],
  ];
  for (const [holds, message] of rules) if (!holds) throw malformed(message);
}
