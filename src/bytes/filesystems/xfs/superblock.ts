import { crc32c } from '../checksums.ts';
import { malformed } from '../metadata-reader.ts';

/** As much as a sector may have; the superblock's checksum covers its whole sector. */
export const MAX_SECTOR_BYTES = 32_768;

/** Features of version 5 whose meaning for the allocation of blocks is known. */
const KNOWN = {
  /** finobt, rmapbt, reflink, inobtcnt */
  roCompat: 0xf,
  /** ftype, sparse inodes, meta_uuid, bigtime, nrext64, exchange range, parent */
  incompat: 0xef,
  /** logged extended attributes */
  logIncompat: 0x1,
} as const;
const NEEDS_REPAIR = 0x10;
const SPARSE_INODES = 0x2;
const REFLINK = 0x4;
const FILE_TYPES = 0x1;
/** The same among the second features of version 4. */
const FILE_TYPES_VERSION_4 = 0x200;

/** The geometry of an XFS filesystem; all counts checked against each other. */
export interface XfsSuperblock {
  readonly blockBytes: number;
  readonly sectorBytes: number;
  readonly blocks: number;
  readonly groupBlocks: number;
  readonly groups: number;
  /** Bits of a block number inside its allocation group. */
  readonly groupBlockBits: number;
  readonly inodeBytes: number;
  /** Where the log lies; bytes of the filesystem. */
  readonly logOffsetBytes: number;
  readonly logBytes: number;
  /** Version 5: every structure has a CRC-32C. */
  readonly hasChecksums: boolean;
  readonly hasSparseInodes: boolean;
  readonly hasReflinks: boolean;
  /** Bits of an inode's number inside its block. */
  readonly inodeBits: number;
  readonly rootInode: number;
  /** Directories are read in pieces of this many bytes: one block, or several. */
  readonly directoryBytes: number;
  /** Directories tell what kind of file each name is. */
  readonly hasFileTypes: boolean;
}

/**
 * Checks the CRC-32C that version 5 keeps inside a structure (little-endian, unlike the rest).
 *
 * @param at where the CRC stands in `bytes`
 */
export function isXfsChecksumRight(bytes: Buffer, at: number): boolean {
  const head = crc32c(crc32c(0xffffffff, bytes.subarray(0, at)), Buffer.alloc(4));
  return ~crc32c(head, bytes.subarray(at + 4)) >>> 0 === bytes.readUInt32LE(at);
}

/**
 * Reads the superblock.
 *
 * @param bytes the first sector, or more
 * @param sizeBytes the device's size: the filesystem must lie inside
 * @throws IngotError `filesystem-malformed` when a number is impossible or a feature is not known
 * @see docs/formats/disk-maps.md
 */
export function parseXfsSuperblock(bytes: Buffer, sizeBytes: number): XfsSuperblock {
  const version = bytes.readUInt16BE(100) & 0xf;
  const sectorBytes = bytes.readUInt16BE(102);
  const blockBytes = bytes.readUInt32BE(4);
  const groupBlockBits = bytes.readUInt8(124);
  if (version !== 4 && version !== 5) throw malformed(`version ${version} is not known`);
  if (!isPowerOfTwo(sectorBytes) || sectorBytes < 512 || sectorBytes > bytes.length) {
    throw malformed(`a sector has ${sectorBytes} bytes`);
  }
  if (version === 5) checkVersion5(bytes.subarray(0, sectorBytes));
  if (bytes.readBigUInt64BE(16) !== 0n) throw malformed('it has a realtime device');
  const logStart = bytes.readBigUInt64BE(48);
  if (logStart === 0n) throw malformed('its log is on another device');
  if (bytes.readUInt8(126) !== 0) throw malformed('mkfs.xfs was not finished');
  const superblock: XfsSuperblock = {
    blockBytes,
    sectorBytes,
    blocks: Number(bytes.readBigUInt64BE(8)),
    groupBlocks: bytes.readUInt32BE(84),
    groups: bytes.readUInt32BE(88),
    groupBlockBits,
    inodeBytes: bytes.readUInt16BE(104),
    logOffsetBytes: 0,
    logBytes: bytes.readUInt32BE(96) * blockBytes,
    hasChecksums: version === 5,
    hasSparseInodes: version === 5 && (bytes.readUInt32BE(216) & SPARSE_INODES) !== 0,
    hasReflinks: version === 5 && (bytes.readUInt32BE(212) & REFLINK) !== 0,
    inodeBits: bytes.readUInt8(123),
    rootInode: Number(bytes.readBigUInt64BE(56)),
    directoryBytes: blockBytes * 2 ** bytes.readUInt8(192),
    hasFileTypes:
      version === 5
        ? (bytes.readUInt32BE(216) & FILE_TYPES) !== 0
        : (bytes.readUInt32BE(200) & FILE_TYPES_VERSION_4) !== 0,
  };
  checkGeometry(superblock, sizeBytes);
  const logOffsetBytes = blockOffset(superblock, Number(logStart), superblock.logBytes);
  return { ...superblock, logOffsetBytes };
}

function checkVersion5(sector: Buffer): void {
  if (!isXfsChecksumRight(sector, 224)) throw malformed('the checksum of the superblock is wrong');
  const incompat = sector.readUInt32BE(216);
  if ((incompat & NEEDS_REPAIR) !== 0) throw malformed('it is marked as needing repair');
  const unknown = [
    [sector.readUInt32BE(212) & ~KNOWN.roCompat, 'ro_compat'],
    [incompat & ~KNOWN.incompat, 'incompat'],
    [sector.readUInt32BE(220) & ~KNOWN.logIncompat, 'log_incompat'],
  ] as const;
  for (const [flags, name] of unknown) {
    if (flags !== 0) throw malformed(`${name} flags 0x${(flags >>> 0).toString(16)} are not known`);
  }
}

const isPowerOfTwo = (value: number): boolean => value > 0 && (value & (value - 1)) === 0;

/** Groups have at least 16 MiB by mkfs.xfs; a million of them is more than any disk. */
const MAX_GROUPS = 2 ** 20;

function checkGeometry(sb: XfsSuperblock, sizeBytes: number): void {
  const { blockBytes, blocks, groupBlocks, groups, groupBlockBits } = sb;
  const rules: readonly [boolean, string][] = [
    [
      isPowerOfTwo(blockBytes) && blockBytes >= 512 && blockBytes <= 65_536,
      `a block has ${blockBytes} bytes`,
    ],
    [sb.sectorBytes <= blockBytes, `a sector has ${sb.sectorBytes} bytes`],
    [
      Number.isSafeInteger(blocks * blockBytes) && blocks * blockBytes <= sizeBytes,
      `its ${blocks} blocks are more than the device's ${sizeBytes} bytes`,
    ],
    [groups > 0 && groups <= MAX_GROUPS && groupBlocks >= 64, `it has ${groups} groups`],
    [
      blocks <= groups * groupBlocks && blocks > (groups - 1) * groupBlocks,
      `${groups} groups of ${groupBlocks} are not ${blocks} blocks`,
    ],
    [
      groupBlockBits > 0 && groupBlockBits <= 31 && groupBlocks <= 2 ** groupBlockBits,
      `a block number has ${groupBlockBits} bits in its group`,
    ],
    [
      isPowerOfTwo(sb.inodeBytes) && sb.inodeBytes >= 256 && sb.inodeBytes <= 2048,
      `an inode has ${sb.inodeBytes} bytes`,
    ],
    [
      sb.inodeBytes * 2 ** sb.inodeBits === blockBytes,
      `a block has 2^${sb.inodeBits} inodes of ${sb.inodeBytes} bytes`,
    ],
    [sb.directoryBytes <= 65_536, `a directory has blocks of ${sb.directoryBytes} bytes`],
  ];
  for (const [holds, message] of rules) if (!holds) throw malformed(message);
}

/** @returns how many blocks an allocation group has: the last may be shorter */
export function blocksOfGroup(sb: XfsSuperblock, group: number): number {
  return Math.min(sb.groupBlocks, sb.blocks - group * sb.groupBlocks);
}

/**
 * Finds a block by its number, which holds group and block apart.
 *
 * @param lengthBytes what must lie in the same group from there on
 * @returns bytes of the filesystem
 * @throws IngotError `filesystem-malformed` when it lies outside
 */
export function blockOffset(sb: XfsSuperblock, number: number, lengthBytes: number): number {
  const group = Math.floor(number / 2 ** sb.groupBlockBits);
  const block = number - group * 2 ** sb.groupBlockBits;
  if (group >= sb.groups || block + lengthBytes / sb.blockBytes > blocksOfGroup(sb, group)) {
    throw malformed(`block ${block} of group ${group} is outside`);
  }
  return (group * sb.groupBlocks + block) * sb.blockBytes;
}
