import { crc32 } from 'node:zlib';
import { malformed } from '../metadata-reader.ts';

export const BLOCK_BYTES = 4096;
export const SEGMENT_BLOCKS = 512;
const MAGIC = 0xf2f52010;
/**
 * encrypt, atomic_write, extra_attr, project_quota, inode_checksum, flexible_inline_xattr,
 * quota_ino, inode_crtime, lost_found, verity, sb_checksum, casefold, compression, ro
 */
const KNOWN_FEATURES = 0x7ffd;
const CHECKSUM_FEATURE = 0x800;

/** Where the areas of an f2fs filesystem lie; all in blocks of 4 KiB. */
export interface F2fsSuperblock {
  readonly blocks: number;
  readonly checkpointBlock: number;
  readonly sitBlock: number;
  /** Blocks of one of the two copies of the segment table. */
  readonly sitBlocks: number;
  readonly mainBlock: number;
  readonly mainSegments: number;
  /** Blocks behind a checkpoint's first that hold what did not fit into it. */
  readonly payloadBlocks: number;
}

/** The CRC-32 of f2fs: seeded with the magic, not inverted. */
export function f2fsCrc(...pieces: readonly Uint8Array[]): number {
  let crc = ~MAGIC >>> 0;
  for (const piece of pieces) crc = crc32(piece, crc);
  return ~crc >>> 0;
}

/**
 * Reads the superblock.
 *
 * @param bytes the 3072 bytes at offset 1024
 * @param sizeBytes the device's size: the filesystem must lie inside
 * @throws IngotError `filesystem-malformed` when a number is impossible or a feature is not known
 * @see docs/formats/disk-maps.md
 */
export function parseF2fsSuperblock(bytes: Buffer, sizeBytes: number): F2fsSuperblock {
  const features = bytes.readUInt32LE(2180);
  const unknown = features & ~KNOWN_FEATURES;
  if (unknown !== 0) throw malformed(`features 0x${(unknown >>> 0).toString(16)} are not known`);
  if (
    (features & CHECKSUM_FEATURE) !== 0 &&
    f2fsCrc(bytes.subarray(0, 3068)) !== bytes.readUInt32LE(3068)
  ) {
    throw malformed('the checksum of the superblock is wrong');
  }
  if (bytes.readUInt8(2201) !== 0) throw malformed('it has several devices');
  if (bytes.readUInt32LE(16) !== 12 || bytes.readUInt32LE(20) !== 9) {
    throw malformed('its blocks have no 4096 bytes, or its segments not 512 blocks');
  }
  const areas = [72, 76, 80, 84, 88, 92].map((at) => bytes.readUInt32LE(at));
  const [, checkpointBlock = 0, sitBlock = 0, natBlock = 0, , mainBlock = 0] = areas;
  const superblock: F2fsSuperblock = {
    blocks: Number(bytes.readBigUInt64LE(36)),
    checkpointBlock,
    sitBlock,
    sitBlocks: (bytes.readUInt32LE(56) / 2) * SEGMENT_BLOCKS,
    mainBlock,
    mainSegments: bytes.readUInt32LE(68),
    payloadBlocks: bytes.readUInt32LE(1664),
  };
  const isSorted = areas.every((area, i) => i === 0 || area >= (areas[i - 1] ?? 0));
  const mainEnd = mainBlock + superblock.mainSegments * SEGMENT_BLOCKS;
  const rules: readonly [boolean, string][] = [
    [isSorted && checkpointBlock > 0, 'its areas are out of order'],
    [superblock.blocks * BLOCK_BYTES <= sizeBytes, `its ${superblock.blocks} blocks are too many`],
    [mainEnd <= superblock.blocks, `its main area ends at ${mainEnd} of ${superblock.blocks}`],
    [checkpointBlock + 2 * SEGMENT_BLOCKS <= sitBlock, 'its checkpoints do not fit'],
    [sitBlock + 2 * superblock.sitBlocks <= natBlock, 'its segment table does not fit'],
    [superblock.payloadBlocks < SEGMENT_BLOCKS, 'its checkpoints are too long'],
  ];
  for (const [holds, message] of rules) if (!holds) throw malformed(message);
  return superblock;
}
