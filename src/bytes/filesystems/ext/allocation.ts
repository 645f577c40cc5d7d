import { isFailure } from '../../../base/index.ts';
import { forEachRun } from '../bitmap.ts';
import { crc32c } from '../checksums.ts';
import { type MetadataReader, malformed } from '../metadata-reader.ts';
import { RunList } from '../run-list.ts';
import {
  type ExtGroup,
  type ExtGroups,
  groupRange,
  inodeTableBlocks,
  superblockRun,
} from './groups.ts';
import type { ExtSuperblock } from './superblock.ts';

/** Which blocks are in use, and which groups had to be taken whole. */
export interface ExtAllocation {
  /** In bytes of the filesystem. */
  readonly used: RunList;
  /** Groups whose bitmaps could not be believed: all their blocks are in `used`. */
  readonly doubtfulGroups: number;
  readonly doubt: string | undefined;
}

/**
 * Reads all block bitmaps.
 *
 * A bitmap that was never written stands for the metadata in that group, which may belong to any
 * group (flex_bg), so the metadata of all groups is added. Where one descriptor cannot be believed
 * its metadata may lie anywhere: then every group without a bitmap is taken whole, too.
 */
export async function readExtAllocation(
  disk: MetadataReader,
  sb: ExtSuperblock,
  { groups, doubt: firstDoubt }: ExtGroups,
  options: { readonly checkCounts: boolean },
): Promise<ExtAllocation> {
  const used = new RunList('join-gaps');
  const addBlocks = (start: number, end: number): void =>
    used.add(start * sb.blockBytes, Math.min(end, sb.blocks) * sb.blockBytes);
  const hasDoubt = firstDoubt !== undefined;
  let doubt = firstDoubt;
  let doubtfulGroups = 0;
  addBlocks(0, sb.firstDataBlock);
  for (const [index, group] of groups.entries()) {
    try {
      if (group === undefined) throw malformed(firstDoubt ?? `group ${index} is unknown`);
      if (!group.isBitmapUninitialised) {
        const bitmap = await readBlockBitmap(disk, sb, group, options.checkCounts);
        forEachRun(bitmap, clustersOf(sb, group), (first, end) =>
          addBlocks(
            group.firstBlock + first * sb.clusterBlocks,
            Math.min(group.endBlock, group.firstBlock + end * sb.clusterBlocks),
          ),
        );
      } else if (hasDoubt) {
        throw malformed(firstDoubt);
      }
    } catch (thrown) {
      if (!isFailure(thrown, 'filesystem-malformed')) throw thrown;
      doubt ??= thrown.message;
      doubtfulGroups += 1;
      addBlocks(...groupRange(sb, index));
    }
  }
  forEachMetadataRun(sb, groups, addBlocks);
  addTail(used, sb, disk.sizeBytes);
  return { used, doubtfulGroups, doubt };
}

const clustersOf = (sb: ExtSuperblock, group: ExtGroup): number =>
  Math.ceil((group.endBlock - group.firstBlock) / sb.clusterBlocks);

async function readBlockBitmap(
  disk: MetadataReader,
  sb: ExtSuperblock,
  group: ExtGroup,
  checkCounts: boolean,
): Promise<Buffer> {
  const what = `the block bitmap of group ${group.index}`;
  const bitmap = await disk.read(group.blockBitmap * sb.blockBytes, sb.blockBytes, what);
  if (sb.checksums === 'crc32c') {
    const covered = bitmap.subarray(0, sb.blocksPerGroup / sb.clusterBlocks / 8);
    const checksum = crc32c(sb.checksumSeed, covered);
    // Descriptors of 32 bytes hold the low half only.
    const expected = group.blockBitmapChecksum;
    if ((sb.has64Bit ? checksum : checksum & 0xffff) !== expected) {
      throw malformed(`the checksum of ${what} is wrong`);
    }
  }
  if (checkCounts) {
    const clusters = clustersOf(sb, group);
    let taken = 0;
    forEachRun(bitmap, clusters, (first, end) => {
      taken += end - first;
    });
    if (clusters - taken !== group.freeClusters) {
      throw malformed(`${what} has ${clusters - taken} free, not ${group.freeClusters}`);
    }
  }
  return bitmap;
}

/** Calls `onRun` with the metadata of every group in blocks, rounded to clusters as the bitmaps are. */
function forEachMetadataRun(
  sb: ExtSuperblock,
  groups: readonly (ExtGroup | undefined)[],
  onRun: (start: number, end: number) => void,
): void {
  const addClusters = (start: number, end: number): void => {
    if (start >= end) return;
    const base = sb.firstDataBlock;
    const down = Math.floor((start - base) / sb.clusterBlocks) * sb.clusterBlocks + base;
    const up = Math.ceil((end - base) / sb.clusterBlocks) * sb.clusterBlocks + base;
    onRun(down, up);
  };
  for (let index = 0; index < groups.length; index++) {
    addClusters(...superblockRun(sb, index));
  }
  for (const group of groups) {
    if (group !== undefined) addClusters(group.blockBitmap, group.blockBitmap + 1);
  }
  for (const group of groups) {
    if (group !== undefined) addClusters(group.inodeBitmap, group.inodeBitmap + 1);
  }
  const tableBlocks = inodeTableBlocks(sb);
  for (const group of groups) {
    if (group !== undefined) addClusters(group.inodeTable, group.inodeTable + tableBlocks);
  }
}

/** What lies behind the filesystem belongs to somebody else (a verity tree, a footer): it is kept. */
function addTail(used: RunList, sb: ExtSuperblock, sizeBytes: number): void {
  used.add(sb.blocks * sb.blockBytes, sizeBytes);
}
