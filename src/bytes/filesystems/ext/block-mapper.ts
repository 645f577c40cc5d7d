import { crc32c } from '../checksums.ts';
import { type MetadataReader, malformed } from '../metadata-reader.ts';
import type { ExtSuperblock } from './superblock.ts';

const EXTENT_MAGIC = 0xf30a;
const MAX_DEPTH = 5;
/** A length above 0x8000 is one of an unwritten extent; 0x8000 itself is 32768 written blocks. */
const MAX_WRITTEN = 0x8000;
/** A file in more pieces than this is not mapped. */
const MAX_RUNS_PER_INODE = 2 ** 18;
/** All trees of a filesystem together; reading as many single blocks takes seconds. */
const MAX_TREE_BLOCKS = 2 ** 20;

const FLAGS = { extents: 0x80000, inlineData: 0x10000000 } as const;

/** A run of a file's blocks that lie side by side on the disk. */
export interface MappedRun {
  /** Block of the file. */
  readonly logical: number;
  /** Block of the filesystem. */
  readonly physical: number;
  readonly blocks: number;
  /** Allocated, but reads as zeros: what lies there is old. */
  readonly isUnwritten: boolean;
}

/** An inode as its table holds it. */
export interface ExtInode {
  readonly number: number;
  readonly bytes: Buffer;
}

/** Tells whether the checksum of an inode is right (or whether the filesystem has none). */
export function isInodeIntact(sb: ExtSuperblock, inode: ExtInode): boolean {
  if (sb.checksums !== 'crc32c') return true;
  const bytes = Buffer.from(inode.bytes);
  const hasHigh = bytes.length > 128 && bytes.readUInt16LE(0x80) >= 4;
  const low = bytes.readUInt16LE(0x7c);
  const expected = hasHigh ? low + bytes.readUInt16LE(0x82) * 2 ** 16 : low;
  bytes.writeUInt16LE(0, 0x7c);
  if (hasHigh) bytes.writeUInt16LE(0, 0x82);
  const checksum = crc32c(inodeSeed(sb, inode), bytes);
  return (hasHigh ? checksum : checksum & 0xffff) === expected;
}

function inodeSeed(sb: ExtSuperblock, inode: ExtInode): number {
  const number = Buffer.alloc(4);
  number.writeUInt32LE(inode.number);
  return crc32c(crc32c(sb.checksumSeed, number), inode.bytes.subarray(0x64, 0x68));
}

/**
 * Finds the blocks of inodes: extent trees and the older block maps.
 *
 * Blocks belong to one inode each, so all inodes together cannot map more blocks than there are:
 * that bound ends a walk over trees that were made to share their branches.
 */
export class BlockMapper {
  readonly #disk: MetadataReader;
  readonly #sb: ExtSuperblock;
  #mappedBlocks = 0;
  #treeBlocks = 0;

  constructor(disk: MetadataReader, sb: ExtSuperblock) {
    this.#disk = disk;
    this.#sb = sb;
  }

  /** Whether the inodes mapped more than a filesystem can hold: nothing that was read is true. */
  get isExhausted(): boolean {
    const isOverMapped = this.#mappedBlocks > this.#sb.blocks && !this.#sb.hasSharedBlocks;
    return isOverMapped || this.#treeBlocks > MAX_TREE_BLOCKS;
  }

  /**
   * Maps an inode whose extents fit into it, without waiting: nearly all do.
   *
   * @returns undefined when {@link map} is needed
   * @throws IngotError `filesystem-malformed`
   */
  mapInPlace(inode: ExtInode): MappedRun[] | undefined {
    const flags = inode.bytes.readUInt32LE(0x20);
    if ((flags & FLAGS.inlineData) !== 0) return [];
    if ((flags & FLAGS.extents) === 0) return undefined;
    const root = inode.bytes.subarray(0x28, 0x64);
    const header = this.#header(root, undefined);
    if (header.depth !== 0) return undefined;
    const runs: MappedRun[] = [];
    this.#leaf(root, header.entries, runs);
    return runs;
  }

  /**
   * Maps an inode, its tree read from the disk.
   *
   * @param treeBlocks takes the blocks of the tree itself
   * @throws IngotError `filesystem-malformed`
   */
  async map(inode: ExtInode, treeBlocks: number[]): Promise<MappedRun[]> {
    const flags = inode.bytes.readUInt32LE(0x20);
    if ((flags & FLAGS.inlineData) !== 0) return [];
    const runs: MappedRun[] = [];
    const root = inode.bytes.subarray(0x28, 0x64);
    if ((flags & FLAGS.extents) !== 0) {
      await this.#extentNode(root, undefined, inode, runs, treeBlocks);
      return runs;
    }
    for (let i = 0; i < 12; i++) this.#addRun(runs, i, root.readUInt32LE(i * 4), 1, false);
    let logical = 12;
    const perBlock = this.#sb.blockBytes / 4;
    for (let depth = 1; depth <= 3; depth++) {
      const pointer = root.readUInt32LE((11 + depth) * 4);
      await this.#indirect(pointer, depth, logical, runs, treeBlocks);
      logical += perBlock ** depth;
    }
    return runs;
  }

  #header(node: Buffer, parentDepth: number | undefined) {
    const entries = node.readUInt16LE(2);
    const max = node.readUInt16LE(4);
    const depth = node.readUInt16LE(6);
    if (node.readUInt16LE(0) !== EXTENT_MAGIC) throw malformed('an extent node has no magic');
    if (entries > max || 12 + max * 12 > node.length) {
      throw malformed(`an extent node has ${entries} of ${max} entries`);
    }
    const isRightDepth = parentDepth === undefined ? depth <= MAX_DEPTH : depth === parentDepth - 1;
    if (!isRightDepth) throw malformed(`an extent node has depth ${depth}`);
    return { entries, max, depth };
  }

  async #extentNode(
    node: Buffer,
    parentDepth: number | undefined,
    inode: ExtInode,
    runs: MappedRun[],
    treeBlocks: number[],
  ): Promise<void> {
    const { entries, max, depth } = this.#header(node, parentDepth);
    if (parentDepth !== undefined) this.#checkNode(node, max, inode);
    if (depth === 0) {
      this.#leaf(node, entries, runs);
      return;
    }
    for (let i = 1; i <= entries; i++) {
      const block = node.readUInt32LE(i * 12 + 4) + node.readUInt16LE(i * 12 + 8) * 2 ** 32;
      const child = await this.#treeBlock(block, treeBlocks);
      await this.#extentNode(child, depth, inode, runs, treeBlocks);
    }
  }

  #checkNode(node: Buffer, max: number, inode: ExtInode): void {
    const tail = 12 + max * 12;
    if (this.#sb.checksums !== 'crc32c' || tail + 4 > node.length) return;
    if (crc32c(inodeSeed(this.#sb, inode), node.subarray(0, tail)) !== node.readUInt32LE(tail)) {
      throw malformed(`the checksum of an extent node of inode ${inode.number} is wrong`);
    }
  }

  #leaf(node: Buffer, entries: number, runs: MappedRun[]): void {
    for (let i = 1; i <= entries; i++) {
      const at = i * 12;
      const length = node.readUInt16LE(at + 4);
      const physical = node.readUInt32LE(at + 8) + node.readUInt16LE(at + 6) * 2 ** 32;
      const isUnwritten = length > MAX_WRITTEN;
      const blocks = isUnwritten ? length - MAX_WRITTEN : length;
      this.#addRun(runs, node.readUInt32LE(at), physical, blocks, isUnwritten);
    }
  }

  async #indirect(
    block: number,
    depth: number,
    logical: number,
    runs: MappedRun[],
    treeBlocks: number[],
  ): Promise<void> {
    if (block === 0) return;
    const node = await this.#treeBlock(block, treeBlocks);
    const perBlock = this.#sb.blockBytes / 4;
    const step = perBlock ** (depth - 1);
    for (let i = 0; i < perBlock; i++) {
      const pointer = node.readUInt32LE(i * 4);
      if (depth === 1) this.#addRun(runs, logical + i, pointer, 1, false);
      else await this.#indirect(pointer, depth - 1, logical + i * step, runs, treeBlocks);
    }
  }

  async #treeBlock(block: number, treeBlocks: number[]): Promise<Buffer> {
    this.#checkBlocks(block, 1);
    this.#treeBlocks += 1;
    if (this.isExhausted) throw malformed('the trees of its inodes share their blocks');
    treeBlocks.push(block);
    const { blockBytes } = this.#sb;
    return await this.#disk.read(block * blockBytes, blockBytes, `tree block ${block}`);
  }

  #checkBlocks(block: number, blocks: number): void {
    if (block <= this.#sb.firstDataBlock || block + blocks > this.#sb.blocks) {
      throw malformed(`a file lies at block ${block} of ${this.#sb.blocks}`);
    }
  }

  /** Adds blocks to the run before them where they continue it; block 0 of a block map is a hole. */
  #addRun(
    runs: MappedRun[],
    logical: number,
    physical: number,
    blocks: number,
    isUnwritten: boolean,
  ): void {
    if (physical === 0 || blocks === 0) return;
    this.#checkBlocks(physical, blocks);
    this.#mappedBlocks += blocks;
    if (this.isExhausted) throw malformed('its inodes map more blocks than there are');
    const last = runs.at(-1);
    if (last !== undefined && logical < last.logical + last.blocks) {
      throw malformed(`the extents of a file overlap at its block ${logical}`);
    }
    if (
      last?.isUnwritten === isUnwritten &&
      logical === last.logical + last.blocks &&
      physical === last.physical + last.blocks
    ) {
      runs[runs.length - 1] = { ...last, blocks: last.blocks + blocks };
      return;
    }
    if (runs.length === MAX_RUNS_PER_INODE) throw malformed('a file has too many extents');
    runs.push({ logical, physical, blocks, isUnwritten });
  }
}
