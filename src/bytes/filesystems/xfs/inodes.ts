import { isFailure } from '../../../base/index.ts';
import type { FileExtents } from '../../extent.ts';
import { FileExtentList } from '../file-extent-list.ts';
import { type MetadataReader, malformed } from '../metadata-reader.ts';
import { RunList } from '../run-list.ts';
import { INODE_TREE, walkGroupTree } from './group-tree.ts';
import {
  blockOffset,
  blocksOfGroup,
  isXfsChecksumRight,
  type XfsSuperblock,
} from './superblock.ts';

const INODES_PER_CHUNK = 64;
const FORMAT = { extents: 2, tree: 3 } as const;
const FILE_TYPE = { mask: 0xf000, directory: 0x4000, regular: 0x8000 } as const;
const REALTIME_FLAG = 1;
const WIDE_COUNTS_FLAG = 1n << 4n;
/** All files together; more is cut by content. */
const MAX_EXTENTS = 2 ** 24;
const MAX_TREE_BLOCKS = 2 ** 20;
const MAX_LEVELS = 9;

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

/** One run of a file, in bytes. */
interface FileRun {
  readonly diskOffset: number;
  readonly lengthBytes: number;
  readonly fileOffset: number;
  readonly isUnwritten: boolean;
}

class InodeWalk {
  readonly #disk: MetadataReader;
  readonly #sb: XfsSuperblock;
  readonly #extents = new FileExtentList();
  readonly #unwritten = new RunList('forget-short');
  readonly #claimed = new RunList('join-gaps');
  #damagedInodes = 0;
  #seenExtents = 0;
  #treeBlocks = 0;

  constructor(disk: MetadataReader, sb: XfsSuperblock) {
    this.#disk = disk;
    this.#sb = sb;
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
        if (this.#isExhausted) throw thrown;
      }
    }
  }

  get #isExhausted(): boolean {
    return this.#seenExtents > MAX_EXTENTS || this.#treeBlocks > MAX_TREE_BLOCKS;
  }

  async #readInode(inode: Buffer): Promise<void> {
    if (inode.readUInt16BE(0) !== 0x494e) throw malformed('an inode has no magic');
    const version = inode.readUInt8(4);
    if ((version === 3) !== this.#sb.hasChecksums)
      throw malformed(`an inode has version ${version}`);
    if (version === 3 && !isXfsChecksumRight(inode, 100)) {
      throw malformed('the checksum of an inode is wrong');
    }
    const type = inode.readUInt16BE(2) & FILE_TYPE.mask;
    const format = inode.readUInt8(5);
    if (format !== FORMAT.extents && format !== FORMAT.tree) return;
    if ((inode.readUInt16BE(90) & REALTIME_FLAG) !== 0)
      throw malformed('a file is on another device');
    const coreBytes = version === 3 ? 176 : 100;
    const forkBytes = inode.readUInt8(82) * 8;
    const fork = inode.subarray(coreBytes, forkBytes === 0 ? undefined : coreBytes + forkBytes);
    const runs: FileRun[] = [];
    if (format === FORMAT.tree) {
      await this.#readRoot(fork, runs);
    } else {
      const hasWideCounts = version === 3 && (inode.readBigUInt64BE(120) & WIDE_COUNTS_FLAG) !== 0n;
      const count = hasWideCounts ? Number(inode.readBigUInt64BE(24)) : inode.readUInt32BE(76);
      this.#readRecords(fork, 0, count, runs);
    }
    const isListed = type === FILE_TYPE.regular || type === FILE_TYPE.directory;
    for (const { diskOffset, lengthBytes, fileOffset, isUnwritten } of runs) {
      const list = isUnwritten ? this.#unwritten : this.#claimed;
      list.add(diskOffset, diskOffset + lengthBytes);
      if (isListed && !isUnwritten) this.#extents.add(diskOffset, lengthBytes, fileOffset);
    }
  }

  /** The root of a file's tree stands in its inode, with a header of four bytes. */
  async #readRoot(fork: Buffer, runs: FileRun[]): Promise<void> {
    const level = fork.readUInt16BE(0);
    const count = fork.readUInt16BE(2);
    const max = Math.floor((fork.length - 4) / 16);
    if (level < 1 || level > MAX_LEVELS || count < 1 || count > max) {
      throw malformed(`the tree of a file has ${count} entries in ${level} levels`);
    }
    for (let i = 0; i < count; i++) {
      const pointer = Number(fork.readBigUInt64BE(4 + max * 8 + i * 8));
      await this.#readNode(pointer, level - 1, runs);
    }
  }

  async #readNode(number: number, level: number, runs: FileRun[]): Promise<void> {
    const sb = this.#sb;
    this.#treeBlocks += 1;
    if (this.#isExhausted) throw malformed('the trees of its files are too large');
    const offset = blockOffset(sb, number, sb.blockBytes);
    const node = await this.#disk.read(offset, sb.blockBytes, "a block of a file's tree");
    const count = node.readUInt16BE(6);
    const header = sb.hasChecksums ? 72 : 24;
    const max = Math.floor((sb.blockBytes - header) / 16);
    const isRight =
      node.toString('latin1', 0, 4) === (sb.hasChecksums ? 'BMA3' : 'BMAP') &&
      node.readUInt16BE(4) === level &&
      count >= 1 &&
      count <= max &&
      (!sb.hasChecksums || isXfsChecksumRight(node, 64));
    if (!isRight) throw malformed("a block of a file's tree is damaged");
    this.#claimed.add(offset, offset + sb.blockBytes);
    if (level === 0) {
      this.#readRecords(node, header, count, runs);
      return;
    }
    for (let i = 0; i < count; i++) {
      const pointer = Number(node.readBigUInt64BE(header + max * 8 + i * 8));
      await this.#readNode(pointer, level - 1, runs);
    }
  }

  /** Reads extent records: 1 bit unwritten, 54 bits file block, 52 bits block, 21 bits count. */
  #readRecords(bytes: Buffer, start: number, count: number, runs: FileRun[]): void {
    const { blockBytes } = this.#sb;
    if (start + count * 16 > bytes.length)
      throw malformed(`a file has ${count} extents in a block`);
    this.#seenExtents += count;
    if (this.#isExhausted) throw malformed('its files have too many extents');
    for (let i = 0; i < count; i++) {
      const at = start + i * 16;
      const high = bytes.readUInt32BE(at);
      const second = bytes.readUInt32BE(at + 4);
      const low = bytes.readUInt32BE(at + 12);
      const fileBlock = (high & 0x7fffffff) * 2 ** 23 + (second >>> 9);
      const block =
        (second & 0x1ff) * 2 ** 43 + bytes.readUInt32BE(at + 8) * 2 ** 11 + (low >>> 21);
      const lengthBytes = (low & 0x1fffff) * blockBytes;
      const diskOffset = blockOffset(this.#sb, block, lengthBytes);
      const last = runs.at(-1);
      const fileOffset = fileBlock * blockBytes;
      if (last !== undefined && fileOffset < last.fileOffset + last.lengthBytes) {
        throw malformed(`the extents of a file overlap at its block ${fileBlock}`);
      }
      runs.push({ diskOffset, lengthBytes, fileOffset, isUnwritten: high >>> 31 === 1 });
    }
  }
}
