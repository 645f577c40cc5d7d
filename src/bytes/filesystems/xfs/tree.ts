import { IngotError } from '../../../base/index.ts';
import type { ByteReader } from '../../byte-reader.ts';
import {
  type DirectoryEntry,
  type FileNode,
  type FilePlace,
  type FileTree,
  kindOf,
  mustBeDirectory,
  mustBeLink,
  PIECE_BYTES,
  zeros,
} from '../file-tree.ts';
import { MetadataReader, malformed } from '../metadata-reader.ts';
import { checkXfsInode, DataForkReader, type FileRun, localData } from './data-fork.ts';
import { blockEntries, DIRECTORY_DATA_BYTES, shortEntries } from './directory.ts';
import { isXfsLogClean } from './log.ts';
import {
  blockOffset,
  isXfsChecksumRight,
  MAX_SECTOR_BYTES,
  parseXfsSuperblock,
  type XfsSuperblock,
} from './superblock.ts';

/** One file: 100 MB of them in memory, and more than any file of an image has. */
const MAX_FILE_EXTENTS = 2 ** 20;
const BIG_TIME_FLAG = 1n << 3n;
/** Times with that flag count nanoseconds from the earliest that 32 bits can say. */
const BIG_TIME_START_NS = -(2n ** 31n) * 1_000_000_000n;
const LINK_HEADER_BYTES = 56;
/** A link has 1024 bytes at most; blocks have 64 KiB at most. */
const MAX_LINK_EXTENT_BYTES = 65_536;

/**
 * Reads files of an XFS filesystem without mounting it.
 *
 * @see docs/formats/file-trees.md
 */
export class XfsTree implements FileTree {
  readonly filesystem = 'xfs';
  readonly needsRecovery: boolean;
  readonly #originBytes: number;
  readonly #disk: MetadataReader;
  readonly #sb: XfsSuperblock;

  private constructor(
    originBytes: number,
    disk: MetadataReader,
    sb: XfsSuperblock,
    needsRecovery: boolean,
  ) {
    this.#originBytes = originBytes;
    this.#disk = disk;
    this.#sb = sb;
    this.needsRecovery = needsRecovery;
  }

  /**
   * Opens the filesystem in a part of a disk.
   *
   * @param range where the partition lies
   * @throws IngotError `filesystem-malformed` also when there is no XFS
   */
  static async open(
    reader: ByteReader,
    range: { readonly offsetBytes: number; readonly sizeBytes: number },
    signal?: AbortSignal,
  ): Promise<XfsTree> {
    const disk = new MetadataReader(reader, range, signal);
    const headBytes = Math.max(512, Math.min(MAX_SECTOR_BYTES, disk.sizeBytes));
    const head = await disk.read(0, headBytes, 'the superblock');
    const sb = parseXfsSuperblock(head, disk.sizeBytes);
    return new XfsTree(range.offsetBytes, disk, sb, !(await isXfsLogClean(disk, sb)));
  }

  root(): Promise<FileNode> {
    return this.node(this.#sb.rootInode);
  }

  async node(inode: number): Promise<FileNode> {
    const { inodeBits, inodeBytes, blockBytes } = this.#sb;
    if (!Number.isSafeInteger(inode)) throw malformed(`there is no inode ${inode}`);
    const block = Math.floor(inode / 2 ** inodeBits);
    const inBlock = inode - block * 2 ** inodeBits;
    const offset = blockOffset(this.#sb, block, blockBytes) + inBlock * inodeBytes;
    // The bytes belong to a cache of pages that moves on.
    const raw = Buffer.from(await this.#disk.read(offset, inodeBytes, `inode ${inode}`));
    checkXfsInode(this.#sb, raw);
    return parseInode(inode, raw);
  }

  async *list(directory: FileNode): AsyncGenerator<DirectoryEntry, void, undefined> {
    const { inode } = directory;
    mustBeDirectory(directory);
    const local = localData(directory.raw);
    if (local !== undefined) {
      yield* shortEntries(this.#sb, local.subarray(0, directory.sizeBytes), inode);
      return;
    }
    const { directoryBytes } = this.#sb;
    const blocks = new BlockJoiner(directoryBytes);
    for (const { fileOffset, diskOffset, lengthBytes } of await this.#runs(directory)) {
      if (fileOffset >= DIRECTORY_DATA_BYTES) break;
      for (let at = 0; at < lengthBytes; at += this.#sb.blockBytes) {
        const what = `directory ${inode}`;
        const piece = await this.#disk.read(diskOffset + at, this.#sb.blockBytes, what);
        const block = blocks.add(fileOffset + at, piece);
        if (block !== undefined) yield* blockEntries(this.#sb, block, inode);
      }
    }
  }

  async readLink(link: FileNode): Promise<Buffer> {
    mustBeLink(link);
    const { sizeBytes } = link;
    const local = localData(link.raw);
    const target =
      local === undefined
        ? await this.#remoteLink(link)
        : Buffer.from(local.subarray(0, sizeBytes));
    if (target.length === sizeBytes) return target;
    throw malformed(`link ${link.inode} has ${target.length} of ${sizeBytes} bytes`);
  }

  async *readFile(file: FileNode): AsyncGenerator<Buffer, void, undefined> {
    if (file.kind !== 'file') {
      throw new IngotError('path-refused', `inode ${file.inode} is a ${file.kind}, not a file`);
    }
    let at = 0;
    for (const run of await this.#runs(file)) {
      if (run.fileOffset >= file.sizeBytes) break;
      yield* zeros(run.fileOffset - at);
      const end = Math.min(run.fileOffset + run.lengthBytes, file.sizeBytes);
      if (run.isUnwritten) yield* zeros(end - run.fileOffset);
      else yield* this.#run(run.diskOffset, end - run.fileOffset, file.inode);
      at = end;
    }
    yield* zeros(file.sizeBytes - at);
  }

  isSubvolume(): boolean {
    return false;
  }

  async placesOf(file: FileNode): Promise<FilePlace[] | undefined> {
    const runs = await this.#runs(file);
    return runs
      .filter(({ fileOffset, isUnwritten }) => !isUnwritten && fileOffset < file.sizeBytes)
      .map(({ fileOffset, diskOffset, lengthBytes }) => ({
        fileOffset,
        diskOffset: this.#originBytes + diskOffset,
        lengthBytes: Math.min(lengthBytes, file.sizeBytes - fileOffset),
      }));
  }

  /** A reader for each file: its limits are for one walk, and files are read again. */
  #runs(node: FileNode): Promise<FileRun[]> {
    const forks = new DataForkReader(this.#disk, this.#sb, { maxExtents: MAX_FILE_EXTENTS });
    return forks.runsOf(node.raw);
  }

  async *#run(
    diskOffset: number,
    lengthBytes: number,
    inode: number,
  ): AsyncGenerator<Buffer, void, undefined> {
    for (let done = 0; done < lengthBytes; done += PIECE_BYTES) {
      const piece = Math.min(PIECE_BYTES, lengthBytes - done);
      yield await this.#disk.read(diskOffset + done, piece, `the file of inode ${inode}`);
    }
  }

  /** With checksums each extent of a link has a header, which says whose it is. */
  async #remoteLink(link: FileNode): Promise<Buffer> {
    const { inode, sizeBytes } = link;
    const pieces: Buffer[] = [];
    let done = 0;
    for (const { diskOffset, lengthBytes } of await this.#runs(link)) {
      if (done === sizeBytes) break;
      if (lengthBytes > MAX_LINK_EXTENT_BYTES) {
        throw malformed(`link ${inode} has an extent of ${lengthBytes} bytes`);
      }
      const extent = await this.#disk.read(diskOffset, lengthBytes, `link ${inode}`);
      const piece = this.#linkPiece(extent, inode, done).subarray(0, sizeBytes - done);
      pieces.push(piece);
      done += piece.length;
    }
    return Buffer.concat(pieces);
  }

  #linkPiece(extent: Buffer, inode: number, offset: number): Buffer {
    if (!this.#sb.hasChecksums) return extent;
    const isRight =
      extent.toString('latin1', 0, 4) === 'XSLM' &&
      extent.readUInt32BE(4) === offset &&
      Number(extent.readBigUInt64BE(32)) === inode &&
      isXfsChecksumRight(extent, 12);
    if (!isRight) throw malformed(`an extent of link ${inode} is damaged`);
    return extent.subarray(LINK_HEADER_BYTES);
  }
}

/** Joins the filesystem's blocks to those of directories, which may be larger. */
class BlockJoiner {
  readonly #directoryBytes: number;
  #pieces: Buffer[] = [];
  #start = 0;
  #length = 0;

  constructor(directoryBytes: number) {
    this.#directoryBytes = directoryBytes;
  }

  /** @returns a whole block of the directory, when `piece` was its last */
  add(fileOffset: number, piece: Buffer): Buffer | undefined {
    if (piece.length === this.#directoryBytes) return piece;
    if (fileOffset % this.#directoryBytes === 0) {
      this.#pieces = [];
      this.#start = fileOffset;
      this.#length = 0;
    }
    if (fileOffset !== this.#start + this.#length) throw malformed('a directory has a gap');
    // Read-only pieces of a cache stay what they are.
    this.#pieces.push(piece);
    this.#length += piece.length;
    return this.#length === this.#directoryBytes ? Buffer.concat(this.#pieces) : undefined;
  }
}

function parseInode(inode: number, raw: Buffer): FileNode {
  const version = raw.readUInt8(4);
  if (version === 3 && Number(raw.readBigUInt64BE(152)) !== inode) {
    throw malformed(`inode ${inode} is another one`);
  }
  const mode = raw.readUInt16BE(2);
  const links = version === 1 ? raw.readUInt16BE(6) : raw.readUInt32BE(16);
  const sizeBytes = Number(raw.readBigUInt64BE(56));
  if (!Number.isSafeInteger(sizeBytes)) throw malformed(`inode ${inode} has ${sizeBytes} bytes`);
  const isBigTime = version === 3 && (raw.readBigUInt64BE(120) & BIG_TIME_FLAG) !== 0n;
  const timeAt = (at: number): bigint =>
    isBigTime
      ? raw.readBigUInt64BE(at) + BIG_TIME_START_NS
      : BigInt(raw.readInt32BE(at)) * 1_000_000_000n + BigInt(raw.readUInt32BE(at + 4));
  return {
    inode,
    kind: kindOf(inode, mode, links),
    permissions: mode & 0o7777,
    userId: raw.readUInt32BE(8),
    groupId: raw.readUInt32BE(12),
    sizeBytes,
    links,
    modifiedAtNs: timeAt(40),
    changedAtNs: timeAt(48),
    raw,
  };
}
