import { type MetadataReader, malformed } from '../metadata-reader.ts';
import { blockOffset, isXfsChecksumRight, type XfsSuperblock } from './superblock.ts';

const FORMAT = { local: 1, extents: 2, tree: 3 } as const;
const INODE_MAGIC = 0x494e;
const REALTIME_FLAG = 1;
const WIDE_COUNTS_FLAG = 1n << 4n;
const MAX_TREE_BLOCKS = 2 ** 20;
const MAX_LEVELS = 9;

/** One run of a file, in bytes; places on the disk count from the filesystem's start. */
export interface FileRun {
  readonly diskOffset: number;
  readonly lengthBytes: number;
  readonly fileOffset: number;
  readonly isUnwritten: boolean;
}

/** A block of the tree in which a file keeps its extents. */
interface TreeBlock {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/**
 * Checks the magic, the version and the checksum of an inode.
 *
 * @throws IngotError `filesystem-malformed`
 */
export function checkXfsInode(sb: XfsSuperblock, inode: Buffer): void {
  if (inode.readUInt16BE(0) !== INODE_MAGIC) throw malformed('an inode has no magic');
  const version = inode.readUInt8(4);
  if ((version === 3) !== sb.hasChecksums) throw malformed(`an inode has version ${version}`);
  if (version === 3 && !isXfsChecksumRight(inode, 100)) {
    throw malformed('the checksum of an inode is wrong');
  }
}

/** The part of an inode that holds its data, its extents, or the root of a tree of them. */
function dataFork(inode: Buffer): Buffer {
  const coreBytes = inode.readUInt8(4) === 3 ? 176 : 100;
  const forkBytes = inode.readUInt8(82) * 8;
  return inode.subarray(coreBytes, forkBytes === 0 ? undefined : coreBytes + forkBytes);
}

/** @returns what the inode holds in place of extents; undefined when it has extents */
export function localData(inode: Buffer): Buffer | undefined {
  return inode.readUInt8(5) === FORMAT.local ? dataFork(inode) : undefined;
}

/** Reads where the data of inodes lie; its limits hold for all inodes together. */
export class DataForkReader {
  readonly #disk: MetadataReader;
  readonly #sb: XfsSuperblock;
  readonly #maxExtents: number;
  readonly #onTreeBlock: ((block: TreeBlock) => void) | undefined;
  #seenExtents = 0;
  #treeBlocks = 0;

  constructor(
    disk: MetadataReader,
    sb: XfsSuperblock,
    limits: { readonly maxExtents: number; readonly onTreeBlock?: (block: TreeBlock) => void },
  ) {
    this.#disk = disk;
    this.#sb = sb;
    this.#maxExtents = limits.maxExtents;
    this.#onTreeBlock = limits.onTreeBlock;
  }

  /** Whether a limit was passed: every further call fails. */
  get isExhausted(): boolean {
    return this.#seenExtents > this.#maxExtents || this.#treeBlocks > MAX_TREE_BLOCKS;
  }

  /**
   * Reads the runs of an inode that was checked, in file order.
   *
   * @returns none for data in the inode, devices and the like
   * @throws IngotError `filesystem-malformed`
   */
  async runsOf(inode: Buffer): Promise<FileRun[]> {
    const format = inode.readUInt8(5);
    const runs: FileRun[] = [];
    if (format !== FORMAT.extents && format !== FORMAT.tree) return runs;
    if ((inode.readUInt16BE(90) & REALTIME_FLAG) !== 0) {
      throw malformed('a file is on another device');
    }
    const fork = dataFork(inode);
    if (format === FORMAT.tree) {
      await this.#readRoot(fork, runs);
      return runs;
    }
    const isWide =
      inode.readUInt8(4) === 3 && (inode.readBigUInt64BE(120) & WIDE_COUNTS_FLAG) !== 0n;
    const count = isWide ? Number(inode.readBigUInt64BE(24)) : inode.readUInt32BE(76);
    this.#readRecords(fork, 0, count, runs);
    return runs;
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
    if (this.isExhausted) throw malformed('the trees of its files are too large');
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
    this.#onTreeBlock?.({ offsetBytes: offset, lengthBytes: sb.blockBytes });
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
    if (start + count * 16 > bytes.length) {
      throw malformed(`a file has ${count} extents in a block`);
    }
    this.#seenExtents += count;
    if (this.isExhausted) throw malformed('its files have too many extents');
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
