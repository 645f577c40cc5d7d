import { crc32c } from '../checksums.ts';
import { malformed } from '../metadata-reader.ts';

/** Where the superblock lies, and how long it is, whatever the block size. */
export const SUPERBLOCK = { offsetBytes: 1024, lengthBytes: 1024 } as const;

const COMPAT = { hasJournal: 0x4, sparseSuper2: 0x200 } as const;
const INCOMPAT = {
  recover: 0x4,
  journalDevice: 0x8,
  metaGroups: 0x10,
  is64Bit: 0x80,
  checksumSeed: 0x2000,
} as const;
const RO_COMPAT = {
  sparseSuper: 0x1,
  groupChecksums: 0x10,
  bigalloc: 0x200,
  metadataChecksums: 0x400,
  sharedBlocks: 0x4000,
} as const;

/**
 * Flags whose meaning for the allocation of blocks is known: of compat all up to orphan_file; of
 * incompat filetype, recover, meta_bg, extents, 64bit, mmp, flex_bg, ea_inode, dirdata, csum_seed,
 * largedir, inline_data, encrypt, casefold; of ro_compat all but has_snapshot and replica.
 */
const KNOWN = { compat: 0x1fff, incompat: 0x3f7d6, roCompat: 0x1f77f } as const;

/** What ext3 knows (blkid): a flag beyond them makes it ext4. */
const EXT3 = { incompat: 0x16, roCompat: 0x7 } as const;

const STATE = { valid: 1, hasErrors: 2 } as const;

/** The geometry of an ext2, ext3 or ext4 filesystem; all counts checked against each other. */
export interface ExtSuperblock {
  readonly filesystem: 'ext2' | 'ext3' | 'ext4';
  readonly blockBytes: number;
  readonly blocks: number;
  readonly firstDataBlock: number;
  /** Blocks for each bit of a block bitmap: 1 without bigalloc. */
  readonly clusterBlocks: number;
  readonly blocksPerGroup: number;
  readonly groups: number;
  readonly inodes: number;
  readonly inodesPerGroup: number;
  readonly inodeBytes: number;
  /** First inode number that is not reserved. */
  readonly firstInode: number;
  readonly descriptorBytes: number;
  readonly reservedDescriptorBlocks: number;
  readonly hasMetaGroups: boolean;
  readonly firstMetaGroup: number;
  readonly hasSparseCopies: boolean;
  /** The two groups that hold copies with sparse_super2, else undefined. */
  readonly copyGroups: readonly [number, number] | undefined;
  readonly has64Bit: boolean;
  /** How group descriptors are checked; without it UNINIT flags mean nothing. */
  readonly checksums: 'none' | 'crc16' | 'crc32c';
  readonly checksumSeed: number;
  readonly uuid: Buffer;
  /** Inode of the journal inside the filesystem, 0 when there is none. */
  readonly journalInode: number;
  readonly needsRecovery: boolean;
  /** False while it is mounted without a journal, and after a crash of such a mount. */
  readonly isMarkedClean: boolean;
  readonly hasErrors: boolean;
  readonly hasSharedBlocks: boolean;
}

/** Tells whether the 1024 bytes at offset 1024 are those of an ext2, ext3 or ext4 filesystem. */
export function isExt(bytes: Buffer): boolean {
  return bytes.length >= SUPERBLOCK.lengthBytes && bytes.readUInt16LE(0x38) === 0xef53;
}

/** Names the flavour as blkid does. */
export function extName(bytes: Buffer): 'ext2' | 'ext3' | 'ext4' {
  const incompat = bytes.readUInt32LE(0x60) & ~EXT3.incompat;
  const roCompat = bytes.readUInt32LE(0x64) & ~EXT3.roCompat;
  if (incompat !== 0 || roCompat !== 0) return 'ext4';
  return (bytes.readUInt32LE(0x5c) & COMPAT.hasJournal) === 0 ? 'ext2' : 'ext3';
}

/**
 * Reads the superblock.
 *
 * @param bytes the 1024 bytes at offset 1024
 * @param sizeBytes the device's size: the filesystem must lie inside
 * @throws IngotError `filesystem-malformed` when a number is impossible or a flag is not known
 * @see docs/formats/disk-maps.md
 */
export function parseExtSuperblock(bytes: Buffer, sizeBytes: number): ExtSuperblock {
  const compat = bytes.readUInt32LE(0x5c);
  const incompat = bytes.readUInt32LE(0x60);
  const roCompat = bytes.readUInt32LE(0x64);
  checkFlags(compat, incompat, roCompat);
  const checksums = checksumKind(bytes, roCompat);
  const superblock: ExtSuperblock = {
    filesystem: extName(bytes),
    ...parseBlocks(bytes, { incompat, roCompat }),
    ...parseInodes(bytes),
    descriptorBytes: (incompat & INCOMPAT.is64Bit) === 0 ? 32 : bytes.readUInt16LE(0xfe),
    reservedDescriptorBlocks: bytes.readUInt16LE(0xce),
    hasMetaGroups: (incompat & INCOMPAT.metaGroups) !== 0,
    firstMetaGroup: bytes.readUInt32LE(0x104),
    hasSparseCopies: (roCompat & RO_COMPAT.sparseSuper) !== 0,
    copyGroups:
      (compat & COMPAT.sparseSuper2) === 0
        ? undefined
        : [bytes.readUInt32LE(0x24c), bytes.readUInt32LE(0x250)],
    has64Bit: (incompat & INCOMPAT.is64Bit) !== 0,
    checksums,
    checksumSeed:
      (incompat & INCOMPAT.checksumSeed) === 0
        ? crc32c(0xffffffff, bytes.subarray(0x68, 0x78))
        : bytes.readUInt32LE(0x270),
    uuid: Buffer.from(bytes.subarray(0x68, 0x78)),
    journalInode: (compat & COMPAT.hasJournal) === 0 ? 0 : bytes.readUInt32LE(0xe0),
    needsRecovery: (incompat & INCOMPAT.recover) !== 0,
    isMarkedClean: (bytes.readUInt16LE(0x3a) & STATE.valid) !== 0,
    hasErrors: (bytes.readUInt16LE(0x3a) & STATE.hasErrors) !== 0,
    hasSharedBlocks: (roCompat & RO_COMPAT.sharedBlocks) !== 0,
  };
  checkGeometry(superblock, sizeBytes);
  return superblock;
}

function checkFlags(compat: number, incompat: number, roCompat: number): void {
  if ((incompat & INCOMPAT.journalDevice) !== 0) {
    throw malformed('it is the external journal of another filesystem');
  }
  const unknown = [
    [compat & ~KNOWN.compat, 'compat'],
    [incompat & ~KNOWN.incompat, 'incompat'],
    [roCompat & ~KNOWN.roCompat, 'ro_compat'],
  ] as const;
  for (const [flags, name] of unknown) {
    if (flags !== 0) throw malformed(`${name} flags 0x${(flags >>> 0).toString(16)} are not known`);
  }
}

function checksumKind(bytes: Buffer, roCompat: number): ExtSuperblock['checksums'] {
  if ((roCompat & RO_COMPAT.metadataChecksums) === 0) {
    return (roCompat & RO_COMPAT.groupChecksums) === 0 ? 'none' : 'crc16';
  }
  if (bytes[0x175] !== 1) throw malformed(`checksum type ${bytes[0x175]} is not known`);
  if (crc32c(0xffffffff, bytes.subarray(0, 0x3fc)) !== bytes.readUInt32LE(0x3fc)) {
    throw malformed('the checksum of the superblock is wrong');
  }
  return 'crc32c';
}

function parseBlocks(bytes: Buffer, flags: { incompat: number; roCompat: number }) {
  const logBlock = bytes.readUInt32LE(0x18);
  const logCluster = bytes.readUInt32LE(0x1c);
  if (logBlock > 6) throw malformed(`the block size is 1024 << ${logBlock}`);
  const hasClusters = (flags.roCompat & RO_COMPAT.bigalloc) !== 0;
  if (hasClusters && (logCluster < logBlock || logCluster > 20)) {
    throw malformed(`the cluster size is 1024 << ${logCluster}`);
  }
  const high = (flags.incompat & INCOMPAT.is64Bit) === 0 ? 0 : bytes.readUInt32LE(0x150);
  const blocks = bytes.readUInt32LE(0x4) + high * 2 ** 32;
  const firstDataBlock = bytes.readUInt32LE(0x14);
  const blocksPerGroup = bytes.readUInt32LE(0x20);
  return {
    blockBytes: 1024 << logBlock,
    blocks,
    firstDataBlock,
    clusterBlocks: hasClusters ? 1 << (logCluster - logBlock) : 1,
    blocksPerGroup,
    groups: blocksPerGroup === 0 ? 0 : Math.ceil((blocks - firstDataBlock) / blocksPerGroup),
  };
}

function parseInodes(bytes: Buffer) {
  const isOld = bytes.readUInt32LE(0x4c) === 0;
  return {
    inodes: bytes.readUInt32LE(0x0),
    inodesPerGroup: bytes.readUInt32LE(0x28),
    inodeBytes: isOld ? 128 : bytes.readUInt16LE(0x58),
    firstInode: isOld ? 11 : bytes.readUInt32LE(0x54),
  };
}

const isPowerOfTwo = (value: number): boolean => value > 0 && (value & (value - 1)) === 0;

/** 2^20 groups of 4 KiB blocks are 128 TiB; what is kept for each group stays below 100 MiB. */
const MAX_GROUPS = 2 ** 20;

function checkGeometry(sb: ExtSuperblock, sizeBytes: number): void {
  const bitsPerBitmap = sb.blockBytes * 8;
  const clustersPerGroup = sb.blocksPerGroup / sb.clusterBlocks;
  const firstDataBlock = sb.blockBytes === 1024 && sb.clusterBlocks === 1 ? 1 : 0;
  const rules: readonly [boolean, string][] = [
    [Number.isSafeInteger(sb.blocks * sb.blockBytes), `it has ${sb.blocks} blocks`],
    [
      sb.blocks * sb.blockBytes <= sizeBytes,
      `its ${sb.blocks} blocks are more than the device's ${sizeBytes} bytes`,
    ],
    [sb.firstDataBlock === firstDataBlock, `block ${sb.firstDataBlock} is its first`],
    [
      Number.isInteger(clustersPerGroup) && clustersPerGroup > 0 && clustersPerGroup % 8 === 0,
      `a group has ${sb.blocksPerGroup} blocks`,
    ],
    [clustersPerGroup <= bitsPerBitmap, `a group has ${sb.blocksPerGroup} blocks`],
    [sb.groups > 0 && sb.groups <= MAX_GROUPS, `it has ${sb.groups} groups`],
    [
      isPowerOfTwo(sb.inodeBytes) && sb.inodeBytes >= 128 && sb.inodeBytes <= sb.blockBytes,
      `an inode has ${sb.inodeBytes} bytes`,
    ],
    [
      sb.inodesPerGroup > 0 && sb.inodesPerGroup <= bitsPerBitmap && sb.inodesPerGroup % 8 === 0,
      `a group has ${sb.inodesPerGroup} inodes`,
    ],
    [
      sb.inodes === sb.inodesPerGroup * sb.groups,
      `${sb.groups} groups of ${sb.inodesPerGroup} inodes are not ${sb.inodes}`,
    ],
    [
      isPowerOfTwo(sb.descriptorBytes) &&
        sb.descriptorBytes >= (sb.has64Bit ? 64 : 32) &&
        sb.descriptorBytes <= sb.blockBytes,
      `a group descriptor has ${sb.descriptorBytes} bytes`,
    ],
  ];
  for (const [holds, message] of rules) if (!holds) throw malformed(message);
}

/** First data block, block size, cluster size, blocks, clusters and inodes of a group. */
const GEOMETRY_FIELDS = { start: 0x14, end: 0x2c } as const;

/**
 * Tells whether a copy of the superblock has the same geometry.
 *
 * Without a checksum it is the one thing that shows a changed superblock: a group size that is
 * wrong by a little leaves all counts right.
 */
export function hasSameGeometry(bytes: Buffer, copy: Buffer): boolean {
  const { start, end } = GEOMETRY_FIELDS;
  return isExt(copy) && bytes.subarray(start, end).equals(copy.subarray(start, end));
}
