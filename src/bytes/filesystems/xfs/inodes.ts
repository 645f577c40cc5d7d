import { isFailure } from '../../../base/index.ts';
import type { FileExtents } from '../../extent.ts';
import { FileExtentList } from '../file-extent-list.ts';
import { type MetadataReader, malformed } from '../metadata-reader.ts';
import { RunList } from '../run-list.ts';
import { checkXfsInode, DataForkReader } from './data-fork.ts';
import { INODE_TREE, walkGroupTree } from './group-tree.ts';
import { blocksOfGroup, isXfsChecksumRight, type XfsSuperblock } from './superblock.ts';

const INODES_PER_CHUNK = 64;
const FILE_TYPE = { mask: 0xf000, directory: 0x4000, regular: 0x8000 } as const;
/** All files together; more is cut by content. */
const MAX_EXTENTS = 2 ** 24;

/** What the inodes say. */
export interface XfsFiles {
  /** Undefined when the inode trees cannot be read. */
  readonly fileExtents: FileExtents | undefined;
  /** Allocated blocks that read as zeros; empty unless every inode was understood. */
  readonly unwritten: RunList;
  readonly damagedInodes: number;
}

/** Walks all inodes and finds where regular files and directories lie. */
export async function readXfsFiles(disk: MetadataReader, sb: XfsSuperblock): Promise<XfsFiles> {
  const walk = new InodeWalk(disk, sb);
  try {
    for (let group = 0; group < sb.groups; group++) await walk.readGroup(group);
  } catch (thrown) {
    if (!isFailure(thrown, 'filesystem-malformed')) throw thrown;
    return { fileExtents: undefined, unwritten: new RunList('forget-short'), damagedInodes: 0 };
  }
  return walk.finish();
}

class InodeWalk {
  readonly #disk: MetadataReader;
  readonly #sb: XfsSuperblock;
  readonly #extents = new FileExtentList();
  readonly #unwritten = new RunList('forget-short');
  readonly #claimed = new RunList('join-gaps');
  readonly #forks: DataForkReader;
  #damagedInodes = 0;

  constructor(disk: MetadataReader, sb: XfsSuperblock) {
    this.#disk = disk;
    this.#sb = sb;
    this.#forks = new DataForkReader(disk, sb, {
      maxExtents: MAX_EXTENTS,
      onTreeBlock: ({ offsetBytes, lengthBytes }) =>
        this.#claimed.add(offsetBytes, offsetBytes + lengthBytes),
    });
  }

  finish(): XfsFiles {
    const isWhole = this.#damagedInodes === 0;
    return {
      fileExtents: this.#extents.finish(),
      unwritten: isWhole ? this.#unwritten.without(this.#claimed) : new RunList('forget-short'),
      damagedInodes: this.#damagedInodes,
    };
  }

  /** @throws IngotError `filesystem-malformed` when the group's inode tree cannot be read */
  async readGroup(group: number): Promise<void> {
    const sb = this.#sb;
    const at = group * sb.groupBlocks * sb.blockBytes + 2 * sb.sectorBytes;
    const agi = await this.#disk.read(at, sb.sectorBytes, `the AGI of group ${group}`);
    const isRight =
      agi.toString('latin1', 0, 4) === 'XAGI' &&
      agi.readUInt32BE(8) === group &&
      (!sb.hasChecksums || isXfsChecksumRight(agi, 312));
    if (!isRight) throw malformed(`the AGI of group ${group} is damaged`);
    const root = { group, block: agi.readUInt32BE(20), levels: agi.readUInt32BE(24) };
    await walkGroupTree(this.#disk, sb, INODE_TREE, root, (record) =>
      this.#readChunk(group, record),
    );
  }

  async #readChunk(group: number, record: Buffer): Promise<void> {
    const sb = this.#sb;
    const firstInode = record.readUInt32BE(0);
    // A bit of the hole mask stands for four inodes that have no blocks.
    const holes = sb.hasSparseInodes ? record.readUInt16BE(4) : 0;
    const free = record.readBigUInt64BE(8);
    const perBlock = sb.blockBytes / sb.inodeBytes;
    for (let i = 0; i < INODES_PER_CHUNK; i++) {
      const isHole = (holes & (1 << Math.floor(i / 4))) !== 0;
      if (isHole || (free & (1n << BigInt(i))) !== 0n) continue;
      const number = firstInode + i;
      const block = Math.floor(number / perBlock);
      if (block >= blocksOfGroup(sb, group)) throw malformed(`inode ${number} is outside`);
      const at = (group * sb.groupBlocks + block) * sb.blockBytes;
      const offset = at + (number % perBlock) * sb.inodeBytes;
      try {
        await this.#readInode(await this.#disk.read(offset, sb.inodeBytes, `inode ${number}`));
      } catch (thrown) {
        if (!isFailure(thrown, 'filesystem-malformed')) throw thrown;
        this.#damagedInodes += 1;
        if (this.#forks.isExhausted) throw thrown;
      }
    }
  }

  async #readInode(inode: Buffer): Promise<void> {
    checkXfsInode(this.#sb, inode);
    const type = inode.readUInt16BE(2) & FILE_TYPE.mask;
    const isListed = type === FILE_TYPE.regular || type === FILE_TYPE.directory;
    for (const run of await this.#forks.runsOf(inode)) {
      const { diskOffset, lengthBytes, fileOffset, isUnwritten } = run;
      const list = isUnwritten ? this.#unwritten : this.#claimed;
      list.add(diskOffset, diskOffset + lengthBytes);
      if (isListed && !isUnwritten) this.#extents.add(diskOffset, lengthBytes, fileOffset);
    }
  }
}
