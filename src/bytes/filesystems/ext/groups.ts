import { isFailure } from '../../../base/index.ts';
import { crc16, crc32c } from '../checksums.ts';
import { type MetadataReader, malformed } from '../metadata-reader.ts';
import type { ExtSuperblock } from './superblock.ts';

/** With sparse_super2 the only copy may lie far away; then it is not looked for. */
const MAX_GROUPS_SEARCHED = 4096;

/** With more of them damaged it is no filesystem: a million failures would take a minute. */
const MAX_DOUBTFUL = 1024;

const FLAGS = { inodesUninitialised: 1, blocksUninitialised: 2 } as const;

/** One block group as its descriptor gives it; pointers are block numbers inside the filesystem. */
export interface ExtGroup {
  readonly index: number;
  readonly firstBlock: number;
  /** First block behind the group. */
  readonly endBlock: number;
  readonly blockBitmap: number;
  readonly inodeBitmap: number;
  readonly inodeTable: number;
  /** In clusters. */
  readonly freeClusters: number;
  /** Whether its block bitmap was never written: only metadata lies in it. */
  readonly isBitmapUninitialised: boolean;
  /** Whether its inode bitmap and table were never written. */
  readonly areInodesUninitialised: boolean;
  /** Inodes of the table that were ever used; those behind them may hold anything. */
  readonly usedInodes: number;
  readonly blockBitmapChecksum: number;
}

/** The descriptors in order; undefined stands for one that cannot be believed. */
export interface ExtGroups {
  readonly groups: readonly (ExtGroup | undefined)[];
  /** Why the first unbelievable descriptor is one, else undefined. */
  readonly doubt: string | undefined;
}

/** @returns how many blocks the inode table of a group has */
export function inodeTableBlocks(sb: ExtSuperblock): number {
  return Math.ceil((sb.inodesPerGroup * sb.inodeBytes) / sb.blockBytes);
}

/** @returns the first block of a group, and the first behind it */
export function groupRange(sb: ExtSuperblock, group: number): readonly [number, number] {
  const first = sb.firstDataBlock + group * sb.blocksPerGroup;
  return [first, Math.min(sb.blocks, first + sb.blocksPerGroup)];
}

/** Tells whether a group starts with a copy of the superblock. */
function hasSuperblockCopy(sb: ExtSuperblock, group: number): boolean {
  if (group === 0) return true;
  if (sb.copyGroups !== undefined) return sb.copyGroups.includes(group);
  if (group === 1 || !sb.hasSparseCopies) return true;
  return [3, 5, 7].some((base) => {
    let power = base;
    while (power < group) power *= base;
    return power === group;
  });
}

const descriptorsPerBlock = (sb: ExtSuperblock): number => sb.blockBytes / sb.descriptorBytes;

/** @returns where the first copy of the superblock lies; undefined when there is none */
export function firstCopyOffset(sb: ExtSuperblock): number | undefined {
  for (let group = 1; group < Math.min(sb.groups, MAX_GROUPS_SEARCHED); group++) {
    if (hasSuperblockCopy(sb, group)) return groupRange(sb, group)[0] * sb.blockBytes;
  }
  return undefined;
}

/** The block of the superblock itself: the GDT follows it even where block 0 is the first. */
const superblockBlock = (sb: ExtSuperblock): number => (sb.blockBytes === 1024 ? 1 : 0);

/**
 * The superblock copy and descriptor blocks at the start of a group, as a run of blocks.
 *
 * @returns first block and the one behind the last; equal when the group has none
 */
export function superblockRun(sb: ExtSuperblock, group: number): readonly [number, number] {
  const perBlock = descriptorsPerBlock(sb);
  const start = group === 0 ? superblockBlock(sb) : groupRange(sb, group)[0];
  const hasCopy = hasSuperblockCopy(sb, group);
  const metaGroup = Math.floor(group / perBlock);
  let blocks = hasCopy ? 1 : 0;
  if (!sb.hasMetaGroups || metaGroup < sb.firstMetaGroup) {
    const old = sb.hasMetaGroups
      ? sb.firstMetaGroup
      : Math.ceil(sb.groups / perBlock) + sb.reservedDescriptorBlocks;
    if (hasCopy) blocks += old;
  } else if ([0, 1, perBlock - 1].includes(group % perBlock)) {
    blocks += 1;
  }
  return [start, Math.min(start + blocks, sb.blocks)];
}

/** @returns the block that holds descriptor block `index` of the filesystem */
function descriptorBlock(sb: ExtSuperblock, index: number): number {
  if (!sb.hasMetaGroups || index < sb.firstMetaGroup) return superblockBlock(sb) + 1 + index;
  const group = index * descriptorsPerBlock(sb);
  const start = group === 0 ? superblockBlock(sb) : groupRange(sb, group)[0];
  return start + (hasSuperblockCopy(sb, group) ? 1 : 0);
}

/**
 * Reads all group descriptors. One that cannot be believed is left out, the others stay.
 *
 * @throws IngotError `filesystem-malformed` when more than a thousand are damaged
 */
export async function readExtGroups(disk: MetadataReader, sb: ExtSuperblock): Promise<ExtGroups> {
  const groups: (ExtGroup | undefined)[] = [];
  let doubt: string | undefined;
  let doubtful = 0;
  const perBlock = descriptorsPerBlock(sb);
  for (let first = 0; first < sb.groups; first += perBlock) {
    const at = descriptorBlock(sb, first / perBlock) * sb.blockBytes;
    for (let i = first; i < Math.min(first + perBlock, sb.groups); i++) {
      try {
        const what = `the descriptor of group ${i}`;
        const offset = at + (i - first) * sb.descriptorBytes;
        groups.push(parseDescriptor(await disk.read(offset, sb.descriptorBytes, what), sb, i));
      } catch (thrown) {
        if (!isFailure(thrown, 'filesystem-malformed')) throw thrown;
        groups.push(undefined);
        doubt ??= thrown.message;
        doubtful += 1;
        if (doubtful > MAX_DOUBTFUL) throw malformed(`${doubt}, and so are ${doubtful} others`);
      }
    }
  }
  return { groups, doubt };
}

function parseDescriptor(bytes: Buffer, sb: ExtSuperblock, index: number): ExtGroup {
  checkDescriptor(bytes, sb, index);
  const wide = (low: number, high: number): number =>
    bytes.readUInt32LE(low) + (sb.has64Bit ? bytes.readUInt32LE(high) * 2 ** 32 : 0);
  const narrow = (low: number, high: number): number =>
    bytes.readUInt16LE(low) + (sb.has64Bit ? bytes.readUInt16LE(high) * 2 ** 16 : 0);
  // Without a checksum the flags and the count of unused inodes are whatever mke2fs left there.
  const flags = sb.checksums === 'none' ? 0 : bytes.readUInt16LE(0x12);
  const unused = sb.checksums === 'none' ? 0 : narrow(0x1c, 0x32);
  const [firstBlock, endBlock] = groupRange(sb, index);
  const group: ExtGroup = {
    index,
    firstBlock,
    endBlock,
    blockBitmap: wide(0x0, 0x20),
    inodeBitmap: wide(0x4, 0x24),
    inodeTable: wide(0x8, 0x28),
    freeClusters: narrow(0xc, 0x2c),
    isBitmapUninitialised: (flags & FLAGS.blocksUninitialised) !== 0,
    areInodesUninitialised: (flags & FLAGS.inodesUninitialised) !== 0,
    usedInodes: (flags & FLAGS.inodesUninitialised) === 0 ? sb.inodesPerGroup - unused : 0,
    blockBitmapChecksum: narrow(0x18, 0x38),
  };
  const runs: readonly [string, number, number][] = [
    ['block bitmap', group.blockBitmap, 1],
    ['inode bitmap', group.inodeBitmap, 1],
    ['inode table', group.inodeTable, inodeTableBlocks(sb)],
  ];
  for (const [name, start, length] of runs) {
    if (start <= sb.firstDataBlock || start + length > sb.blocks) {
      throw malformed(`the ${name} of group ${index} is at block ${start} of ${sb.blocks}`);
    }
  }
  if (group.usedInodes < 0) throw malformed(`group ${index} has ${unused} unused inodes`);
  return group;
}

/** Checks the checksum of a descriptor: the one thing that makes its flags trustworthy. */
function checkDescriptor(bytes: Buffer, sb: ExtSuperblock, index: number): void {
  if (sb.checksums === 'none') return;
  const number = Buffer.alloc(4);
  number.writeUInt32LE(index);
  const before = bytes.subarray(0, 0x1e);
  const behind = bytes.subarray(0x20);
  let checksum: number;
  if (sb.checksums === 'crc16') {
    const head = crc16(crc16(crc16(0xffff, sb.uuid), number), before);
    checksum = sb.has64Bit ? crc16(head, behind) : head;
  } else {
    const head = crc32c(crc32c(crc32c(sb.checksumSeed, number), before), Buffer.alloc(2));
    checksum = crc32c(head, behind) & 0xffff;
  }
  if (checksum !== bytes.readUInt16LE(0x1e)) {
    throw malformed(`the checksum of the descriptor of group ${index} is wrong`);
  }
}
