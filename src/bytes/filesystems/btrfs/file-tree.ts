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
  takeName,
  zeros,
} from '../file-tree.ts';
import { MetadataReader, malformed } from '../metadata-reader.ts';
import { decompressExtent, EXTENT_DATA, type FileExtent, parseFileExtent } from './file-extent.ts';
import { openBtrfs } from './roots.ts';
import { INODE_ITEM, parseDirectoryItem, type Subvolume, Subvolumes } from './subvolumes.ts';
import { itemsFrom, type TreeContext, type TreeItem } from './tree.ts';

const DIR_INDEX = 96;
const INODE_BYTES = 160;
/** The top directory of every subvolume. */
const TOP_OBJECT = 256n;
/** An inode is one number: the subvolume's position in front of 40 bits of its own number. */
const OBJECT_BITS = 40n;
/** Stands for empty directories in the places of subvolumes; no subvolume has this position. */
const STUB_INDEX = 4095;
const MAX_FILE_EXTENTS = 2 ** 20;

/** Type of the items that name an inode in its directory. */
const INODE_REF = 12;
/** Directories below one another: more than any path of the kernel can name. */
const MAX_DEPTH = 2048;

/**
 * Reads files of a btrfs filesystem of one device without mounting it.
 *
 * The top is that of the default subvolume; others appear as directories where they lie below it.
 *
 * @see docs/formats/file-trees.md
 */
export class BtrfsTree implements FileTree {
  readonly filesystem = 'btrfs';
  readonly needsRecovery: boolean;
  readonly #originBytes: number;
  readonly #context: TreeContext;
  readonly #subvolumes: Subvolumes;
  #stubs = 0;

  private constructor(originBytes: number, context: TreeContext, subvolumes: Subvolumes) {
    this.needsRecovery = context.sb.hasLog;
    this.#originBytes = originBytes;
    this.#context = context;
    this.#subvolumes = subvolumes;
  }

  /**
   * Opens the filesystem in a part of a disk.
   *
   * @param range where the partition lies
   * @throws IngotError `filesystem-malformed` also when there is no btrfs
   */
  static async open(
    reader: ByteReader,
    range: { readonly offsetBytes: number; readonly sizeBytes: number },
    signal?: AbortSignal,
  ): Promise<BtrfsTree> {
    const context = await openBtrfs(new MetadataReader(reader, range, signal), new Map());
    return new BtrfsTree(range.offsetBytes, context, await Subvolumes.read(context));
  }

  root(): Promise<FileNode> {
    return this.node(inodeOf(this.#subvolumes.default.index, TOP_OBJECT));
  }

  async outermost(): Promise<{ readonly node: FileNode; readonly rootPath: readonly Buffer[] }> {
    const { top } = this.#subvolumes;
    const rootPath: Buffer[] = [];
    for (let here = this.#subvolumes.default; here !== top; ) {
      const entry = this.#subvolumes.entryOf(here.treeId);
      if (entry === undefined || rootPath.length > MAX_DEPTH) {
        throw malformed(`tree ${here.treeId} lies nowhere below the top`);
      }
      here = this.#subvolumes.ofTree(entry.tree);
      rootPath.unshift(...(await this.#pathOf(here, entry.directory)), entry.name);
    }
    return { node: await this.node(inodeOf(top.index, TOP_OBJECT)), rootPath };
  }

  async node(inode: number): Promise<FileNode> {
    if (indexOf(inode) === STUB_INDEX) return stub(inode);
    const { subvolume, object } = this.#placeOf(inode);
    const from = { objectId: object, type: INODE_ITEM, offset: 0n };
    for await (const item of itemsFrom(this.#context, subvolume.root, from)) {
      if (item.objectId !== object || item.type !== INODE_ITEM) break;
      return parseInode(inode, item.data);
    }
    throw malformed(`there is no inode ${object} in tree ${subvolume.treeId}`);
  }

  async *list(directory: FileNode): AsyncGenerator<DirectoryEntry, void, undefined> {
    mustBeDirectory(directory);
    if (indexOf(directory.inode) === STUB_INDEX) return;
    const { subvolume } = this.#placeOf(directory.inode);
    for await (const { data } of this.#items(directory.inode, DIR_INDEX)) {
      const { name: bytes, target } = parseDirectoryItem(data);
      const name = takeName(bytes, directory.inode);
      if (name === undefined) continue;
      const inode = target.isSubvolume
        ? this.#entered(target.objectId, directory.inode, name)
        : inodeOf(subvolume.index, target.objectId);
      yield { name, inode };
    }
  }

  async readLink(link: FileNode): Promise<Buffer> {
    mustBeLink(link);
    const pieces: Buffer[] = [];
    for await (const piece of this.#content(link)) pieces.push(Buffer.from(piece));
    return Buffer.concat(pieces);
  }

  async *readFile(file: FileNode): AsyncGenerator<Buffer, void, undefined> {
    if (file.kind !== 'file') {
      throw new IngotError('path-refused', `inode ${file.inode} is a ${file.kind}, not a file`);
    }
    yield* this.#content(file);
  }

  isSubvolume(directory: FileNode): boolean {
    const index = indexOf(directory.inode);
    return (
      BigInt(directory.inode) % 2n ** OBJECT_BITS === TOP_OBJECT &&
      index !== STUB_INDEX &&
      index !== this.#subvolumes.default.index
    );
  }

  async placesOf(file: FileNode): Promise<FilePlace[] | undefined> {
    const places: FilePlace[] = [];
    for await (const extent of this.#extents(file)) {
      const { fileOffset, stored, inline, compression } = extent;
      if (inline !== undefined || compression !== 'none') return undefined;
      if (stored === undefined || fileOffset >= file.sizeBytes) continue;
      const lengthBytes = Math.min(extent.lengthBytes, file.sizeBytes - fileOffset);
      const diskOffset = this.#locate(stored.logical + stored.skippedBytes, lengthBytes);
      places.push({ fileOffset, diskOffset: this.#originBytes + diskOffset, lengthBytes });
    }
    return places;
  }

  /** Names of a directory and those that it lies in, up to the top of its subvolume. */
  async #pathOf(subvolume: Subvolume, directory: bigint): Promise<Buffer[]> {
    const names: Buffer[] = [];
    for (let object = directory; object !== TOP_OBJECT; ) {
      const from = { objectId: object, type: INODE_REF, offset: 0n };
      let parent: bigint | undefined;
      for await (const item of itemsFrom(this.#context, subvolume.root, from)) {
        if (item.objectId !== object || item.type !== INODE_REF) break;
        names.unshift(parseInodeName(item.data));
        parent = item.offset;
        break;
      }
      if (parent === undefined || names.length > MAX_DEPTH) {
        throw malformed(`directory ${object} of tree ${subvolume.treeId} has no place`);
      }
      object = parent;
    }
    return names;
  }

  #placeOf(inode: number): { readonly subvolume: Subvolume; readonly object: bigint } {
    const object = BigInt(inode) % 2n ** OBJECT_BITS;
    return { subvolume: this.#subvolumes.at(indexOf(inode)), object };
  }

  /** @returns the top of the subvolume, or an empty directory in its place */
  #entered(treeId: bigint, directoryInode: number, name: Buffer): number {
    const { subvolume, object } = this.#placeOf(directoryInode);
    const by = { tree: subvolume.treeId, directory: object, name };
    const entered = this.#subvolumes.entered(treeId, by);
    if (entered !== undefined) return inodeOf(entered.index, TOP_OBJECT);
    // Each has a number of its own: a walk must not take them for one directory with two parents.
    this.#stubs += 1;
    return inodeOf(STUB_INDEX, BigInt(this.#stubs));
  }

  /** Yields the items of one kind that belong to an inode. */
  async *#items(inode: number, type: number): AsyncGenerator<TreeItem, void, undefined> {
    const { subvolume, object } = this.#placeOf(inode);
    const from = { objectId: object, type, offset: 0n };
    for await (const item of itemsFrom(this.#context, subvolume.root, from)) {
      if (item.objectId !== object || item.type !== type) return;
      yield item;
    }
  }

  /** Yields the extents of a file in file order; what lies between them is a hole. */
  async *#extents(file: FileNode): AsyncGenerator<FileExtent, void, undefined> {
    let end = 0;
    let count = 0;
    for await (const item of this.#items(file.inode, EXTENT_DATA)) {
      const extent = parseFileExtent(item);
      if (extent.fileOffset < end) throw malformed(`the extents of inode ${file.inode} overlap`);
      end = extent.fileOffset + extent.lengthBytes;
      count += 1;
      if (!Number.isSafeInteger(end) || count > MAX_FILE_EXTENTS) {
        throw malformed(`inode ${file.inode} has too many extents`);
      }
      yield extent;
    }
  }

  async *#content(file: FileNode): AsyncGenerator<Buffer, void, undefined> {
    let at = 0;
    for await (const extent of this.#extents(file)) {
      if (extent.fileOffset >= file.sizeBytes) break;
      yield* zeros(extent.fileOffset - at);
      at = Math.min(extent.fileOffset + extent.lengthBytes, file.sizeBytes);
      yield* this.#extentBytes(extent, at - extent.fileOffset);
    }
    yield* zeros(file.sizeBytes - at);
  }

  async *#extentBytes(
    extent: FileExtent,
    lengthBytes: number,
  ): AsyncGenerator<Buffer, void, undefined> {
    const { inline, stored, compression } = extent;
    if (inline !== undefined) {
      const plain = decompressExtent(extent, inline, this.#context.sb.sectorBytes);
      if (plain.length < lengthBytes) throw malformed('a file in a tree is cut');
      yield plain.subarray(0, lengthBytes);
    } else if (stored === undefined) {
      yield* zeros(lengthBytes);
    } else if (compression !== 'none') {
      const bytes = await this.#read(stored.logical, stored.lengthBytes);
      const plain = decompressExtent(extent, bytes, this.#context.sb.sectorBytes);
      yield plain.subarray(stored.skippedBytes, stored.skippedBytes + lengthBytes);
    } else {
      const start = stored.logical + stored.skippedBytes;
      for (let done = 0; done < lengthBytes; done += PIECE_BYTES) {
        yield await this.#read(start + done, Math.min(PIECE_BYTES, lengthBytes - done));
      }
    }
  }

  async #read(logical: number, lengthBytes: number): Promise<Buffer> {
    const offset = this.#locate(logical, lengthBytes);
    return await this.#context.disk.read(offset, lengthBytes, 'an extent of a file');
  }

  #locate(logical: number, lengthBytes: number): number {
    const [offset] = this.#context.chunks.locate(logical, lengthBytes);
    if (offset === undefined) throw malformed(`no chunk holds ${lengthBytes} bytes at ${logical}`);
    return offset;
  }
}

/** @returns the name under which an inode stands in its directory */
function parseInodeName(data: Buffer): Buffer {
  const nameBytes = data.length < 10 ? 0 : data.readUInt16LE(8);
  if (nameBytes === 0 || 10 + nameBytes > data.length) {
    throw malformed(`a name of an inode has ${data.length} bytes`);
  }
  return Buffer.from(data.subarray(10, 10 + nameBytes));
}

function inodeOf(index: number, object: bigint): number {
  if (object >> OBJECT_BITS !== 0n) {
    throw new IngotError('source-unsupported', `inode ${object} has more than ${OBJECT_BITS} bits`);
  }
  return Number((BigInt(index) << OBJECT_BITS) + object);
}

function indexOf(inode: number): number {
  return Math.floor(inode / 2 ** Number(OBJECT_BITS));
}

function stub(inode: number): FileNode {
  return {
    inode,
    kind: 'directory',
    permissions: 0o755,
    userId: 0,
    groupId: 0,
    sizeBytes: 0,
    links: 1,
    modifiedAtNs: 0n,
    changedAtNs: 0n,
    raw: Buffer.alloc(0),
  };
}

function parseInode(inode: number, data: Buffer): FileNode {
  if (data.length < INODE_BYTES) throw malformed(`inode ${inode} has ${data.length} bytes`);
  const mode = data.readUInt32LE(52);
  const links = data.readUInt32LE(40);
  const sizeBytes = Number(data.readBigUInt64LE(16));
  if (!Number.isSafeInteger(sizeBytes)) throw malformed(`inode ${inode} has ${sizeBytes} bytes`);
  const timeAt = (at: number): bigint =>
    data.readBigInt64LE(at) * 1_000_000_000n + BigInt(data.readUInt32LE(at + 8));
  return {
    inode,
    kind: kindOf(inode, mode, links),
    permissions: mode & 0o7777,
    userId: data.readUInt32LE(44),
    groupId: data.readUInt32LE(48),
    sizeBytes,
    links,
    modifiedAtNs: timeAt(136),
    changedAtNs: timeAt(124),
    raw: Buffer.alloc(0),
  };
}
