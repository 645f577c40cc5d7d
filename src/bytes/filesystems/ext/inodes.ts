import { isFailure } from '../../../base/index.ts';
import type { FileExtents } from '../../extent.ts';
import { hasBit } from '../bitmap.ts';
import { FileExtentList } from '../file-extent-list.ts';
import type { MetadataReader } from '../metadata-reader.ts';
import { RunList } from '../run-list.ts';
import { BlockMapper, type ExtInode, isInodeIntact, type MappedRun } from './block-mapper.ts';
import type { ExtGroup } from './groups.ts';
import type { ExtSuperblock } from './superblock.ts';

const ROOT_INODE = 2;
const FILE_TYPE = { mask: 0xf000, directory: 0x4000, regular: 0x8000 } as const;
/** As much of an inode table as is read at once. */
const PIECE_BYTES = 64 * 1024;

/** What the inode tables say. */
export interface ExtFiles {
  /** Undefined when the tables contradict themselves. */
  readonly fileExtents: FileExtents | undefined;
  /** Allocated blocks that read as zeros, of inodes that were understood; bytes. */
  readonly unwritten: RunList;
  /** What files and their trees lie in; bytes. Nothing of it may be dropped. */
  readonly claimed: RunList;
  /** Inodes that were skipped because they are damaged. */
  readonly damagedInodes: number;
}

/** Walks the inode tables and finds where regular files and directories lie. */
export async function readExtFiles(
  disk: MetadataReader,
  sb: ExtSuperblock,
  groups: readonly (ExtGroup | undefined)[],
): Promise<ExtFiles> {
  const extents = new FileExtentList();
  const unwritten = new RunList('forget-short');
  const claimed = new RunList('join-gaps');
  const mapper = new BlockMapper(disk, sb);
  let damagedInodes = 0;
  const inBytes = (block: number): number => block * sb.blockBytes;
  const take = (inode: ExtInode, runs: readonly MappedRun[]): void => {
    const mayDrop = runs.some((run) => run.isUnwritten) && isInodeIntact(sb, inode);
    for (const { physical, blocks, logical, isUnwritten } of runs) {
      const end = inBytes(physical + blocks);
      if (isUnwritten && mayDrop) {
        unwritten.add(inBytes(physical), end);
      } else {
        claimed.add(inBytes(physical), end);
        if (!isUnwritten) extents.add(inBytes(physical), inBytes(blocks), inBytes(logical));
      }
    }
  };
  for (const group of groups) {
    if (group === undefined) continue;
    for await (const inodes of readUsedInodes(disk, sb, group)) {
      for (const inode of inodes) {
        try {
          const treeBlocks: number[] = [];
          take(inode, mapper.mapInPlace(inode) ?? (await mapper.map(inode, treeBlocks)));
          for (const block of treeBlocks) claimed.add(inBytes(block), inBytes(block + 1));
        } catch (thrown) {
          if (!isFailure(thrown, 'filesystem-malformed')) throw thrown;
          damagedInodes += 1;
        }
        if (mapper.isExhausted) {
          return {
            fileExtents: undefined,
            unwritten: new RunList('forget-short'),
            claimed,
            damagedInodes,
          };
        }
      }
    }
  }
  return { fileExtents: extents.finish(), unwritten, claimed, damagedInodes };
}

/** Reads one inode of the filesystem, or undefined when its group is not known. */
export async function readExtInode(
  disk: MetadataReader,
  sb: ExtSuperblock,
  groups: readonly (ExtGroup | undefined)[],
  number: number,
): Promise<ExtInode | undefined> {
  const group = groups[Math.floor((number - 1) / sb.inodesPerGroup)];
  if (number < 1 || group === undefined) return undefined;
  const at = group.inodeTable * sb.blockBytes + ((number - 1) % sb.inodesPerGroup) * sb.inodeBytes;
  return { number, bytes: await disk.read(at, sb.inodeBytes, `inode ${number}`) };
}

/** Yields the regular files and directories of a group that are in use, in pieces of its table. */
async function* readUsedInodes(
  disk: MetadataReader,
  sb: ExtSuperblock,
  group: ExtGroup,
): AsyncGenerator<ExtInode[], void, undefined> {
  if (group.usedInodes === 0) return;
  const bitmapAt = group.inodeBitmap * sb.blockBytes;
  const bitmap = await disk.read(bitmapAt, sb.inodesPerGroup / 8, 'an inode bitmap');
  const perPiece = PIECE_BYTES / sb.inodeBytes;
  for (let first = 0; first < group.usedInodes; first += perPiece) {
    const count = Math.min(perPiece, group.usedInodes - first);
    const used: number[] = [];
    for (let i = first; i < first + count; i++) if (hasBit(bitmap, i)) used.push(i);
    if (used.length === 0) continue;
    const at = group.inodeTable * sb.blockBytes + first * sb.inodeBytes;
    const piece = await disk.read(at, count * sb.inodeBytes, 'an inode table');
    const inodes: ExtInode[] = [];
    for (const i of used) {
      const number = group.index * sb.inodesPerGroup + i + 1;
      const bytes = piece.subarray((i - first) * sb.inodeBytes, (i - first + 1) * sb.inodeBytes);
      if (isFileOrDirectory(sb, number, bytes)) inodes.push({ number, bytes });
    }
    yield inodes;
  }
}

function isFileOrDirectory(sb: ExtSuperblock, number: number, bytes: Buffer): boolean {
  // Reserved inodes hold the journal, the resize reserve, quotas: not files of anybody.
  if (number < sb.firstInode && number !== ROOT_INODE) return false;
  const type = bytes.readUInt16LE(0) & FILE_TYPE.mask;
  if (type !== FILE_TYPE.regular && type !== FILE_TYPE.directory) return false;
  const links = bytes.readUInt16LE(0x1a);
  return links > 0;
}
