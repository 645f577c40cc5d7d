import { IngotError } from '../../../base/index.ts';
import type { ByteReader } from '../../byte-reader.ts';
import {
  type DirectoryEntry,
  type FileNode,
  type FilePlace,
  type FileTree,
  mustBeDirectory,
  mustBeLink,
  PIECE_BYTES,
  takeName,
  zeros,
} from '../file-tree.ts';
import { MetadataReader, malformed } from '../metadata-reader.ts';
import { BlockMapper, type ExtInode, type MappedRun } from './block-mapper.ts';
import { type ExtGroup, readExtGroups } from './groups.ts';
import { inlineData, parseInode } from './inode-facts.ts';
import { readExtInode } from './inodes.ts';
import { type ExtSuperblock, isExt, parseExtSuperblock, SUPERBLOCK } from './superblock.ts';

const ROOT_INODE = 2;
const FLAGS = { encrypted: 0x800, extents: 0x80000, inlineData: 0x10000000 } as const;
/** A link that fits in place of the block map is kept there. */
const MAX_FAST_LINK_BYTES = 59;
/** Entries of one directory; ext4 without largedir ends near 10 to 12 million. */
const MAX_DIRECTORY_BYTES = 2 ** 32;

/**
 * Reads files of an ext2, ext3 or ext4 filesystem without mounting it.
 *
 * @see docs/formats/ext-tree.md
 */
export class ExtTree implements FileTree {
  readonly filesystem: 'ext2' | 'ext3' | 'ext4';
  readonly needsRecovery: boolean;
  readonly #originBytes: number;
  readonly #disk: MetadataReader;
  readonly #sb: ExtSuperblock;
  readonly #groups: readonly (ExtGroup | undefined)[];

  private constructor(
    originBytes: number,
    disk: MetadataReader,
    sb: ExtSuperblock,
    groups: readonly (ExtGroup | undefined)[],
  ) {
    this.filesystem = sb.filesystem;
    this.needsRecovery = sb.needsRecovery;
    this.#originBytes = originBytes;
    this.#disk = disk;
    this.#sb = sb;
    this.#groups = groups;
  }

  /**
   * Opens the filesystem in a part of a disk.
   *
   * @param range where the partition lies
   * @returns undefined when there is no ext2, ext3 or ext4 filesystem
   */
  static async open(
    reader: ByteReader,
    range: { readonly offsetBytes: number; readonly sizeBytes: number },
    signal?: AbortSignal,
  ): Promise<ExtTree | undefined> {
    const { offsetBytes, lengthBytes } = SUPERBLOCK;
    if (range.sizeBytes < offsetBytes + lengthBytes) return undefined;
    const disk = new MetadataReader(reader, range, signal);
    const bytes = await disk.read(offsetBytes, lengthBytes, 'the superblock');
    if (!isExt(bytes)) return undefined;
    const sb = parseExtSuperblock(bytes, range.sizeBytes);
    const { groups } = await readExtGroups(disk, sb);
    return new ExtTree(range.offsetBytes, disk, sb, groups);
  }

  root(): Promise<FileNode> {
    return this.node(ROOT_INODE);
  }

  async node(inode: number): Promise<FileNode> {
    const raw = await readExtInode(this.#disk, this.#sb, this.#groups, inode);
    if (raw === undefined) throw malformed(`there is no inode ${inode}`);
    // The bytes belong to a cache of pages that moves on.
    return parseInode(this.#sb, { number: inode, bytes: Buffer.from(raw.bytes) });
  }

  async *list(directory: FileNode): AsyncGenerator<DirectoryEntry, void, undefined> {
    mustBeDirectory(directory);
    this.#refuseEncrypted(directory);
    if ((flagsOf(directory) & FLAGS.inlineData) !== 0) {
      yield* this.#inlineEntries(directory);
      return;
    }
    if (directory.sizeBytes > MAX_DIRECTORY_BYTES) {
      throw malformed(`directory ${directory.inode} has ${directory.sizeBytes} bytes`);
    }
    const { blockBytes } = this.#sb;
    let rest = Math.ceil(directory.sizeBytes / blockBytes);
    for (const run of await this.#map(directory)) {
      for (let i = 0; i < run.blocks && rest > 0; i++, rest--) {
        if (run.isUnwritten) continue;
        const at = (run.physical + i) * blockBytes;
        const block = await this.#disk.read(at, blockBytes, `directory ${directory.inode}`);
        yield* this.#entriesOf(block, directory.inode);
      }
    }
  }

  async readLink(link: FileNode): Promise<Buffer> {
    mustBeLink(link);
    this.#refuseEncrypted(link);
    const flags = flagsOf(link);
    const isFast = (flags & (FLAGS.extents | FLAGS.inlineData)) === 0;
    if (isFast && link.sizeBytes <= MAX_FAST_LINK_BYTES) {
      return Buffer.from(link.raw.subarray(0x28, 0x28 + link.sizeBytes));
    }
    const pieces: Buffer[] = [];
    for await (const piece of this.#content(link)) pieces.push(piece);
    return Buffer.concat(pieces);
  }

  async *readFile(file: FileNode): AsyncGenerator<Buffer, void, undefined> {
    if (file.kind !== 'file') {
      throw new IngotError('path-refused', `inode ${file.inode} is a ${file.kind}, not a file`);
    }
    this.#refuseEncrypted(file);
    yield* this.#content(file);
  }

  isSubvolume(): boolean {
    return false;
  }

  async placesOf(file: FileNode): Promise<FilePlace[] | undefined> {
    if ((flagsOf(file) & FLAGS.inlineData) !== 0) return undefined;
    const { blockBytes } = this.#sb;
    const places: FilePlace[] = [];
    for (const run of await this.#map(file)) {
      const fileOffset = run.logical * blockBytes;
      if (fileOffset >= file.sizeBytes || run.isUnwritten) continue;
      places.push({
        fileOffset,
        diskOffset: this.#originBytes + run.physical * blockBytes,
        lengthBytes: Math.min(run.blocks * blockBytes, file.sizeBytes - fileOffset),
      });
    }
    return places;
  }

  async *#content(node: FileNode): AsyncGenerator<Buffer, void, undefined> {
    if ((flagsOf(node) & FLAGS.inlineData) !== 0) {
      const data = inlineData(this.#sb, extInode(node));
      if (data.length < node.sizeBytes) {
        throw malformed(`inode ${node.inode} has ${data.length} of ${node.sizeBytes} inline bytes`);
      }
      yield data.subarray(0, node.sizeBytes);
      return;
    }
    const { blockBytes } = this.#sb;
    let at = 0;
    for (const run of await this.#map(node)) {
      const start = run.logical * blockBytes;
      if (start >= node.sizeBytes) break;
      yield* zeros(start - at);
      const end = Math.min(start + run.blocks * blockBytes, node.sizeBytes);
      if (run.isUnwritten) yield* zeros(end - start);
      else yield* this.#run(run.physical * blockBytes, end - start, node.inode);
      at = end;
    }
    yield* zeros(node.sizeBytes - at);
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

  /** A mapper for each file: its bound is for one walk over all inodes, and files are read again. */
  async #map(node: FileNode): Promise<MappedRun[]> {
    const mapper = new BlockMapper(this.#disk, this.#sb);
    const inode = extInode(node);
    return mapper.mapInPlace(inode) ?? (await mapper.map(inode, []));
  }

  *#inlineEntries(directory: FileNode): Generator<DirectoryEntry, void, undefined> {
    const data = inlineData(this.#sb, extInode(directory));
    // The first four bytes are the parent's number in place of `.` and `..`; each part stands alone.
    yield* this.#entriesOf(data.subarray(4, 60), directory.inode);
    if (data.length > 60) yield* this.#entriesOf(data.subarray(60), directory.inode);
  }

  *#entriesOf(block: Buffer, directory: number): Generator<DirectoryEntry, void, undefined> {
    for (let at = 0; at + 8 <= block.length; ) {
      const inode = block.readUInt32LE(at);
      const lengthBytes = recordLength(block.readUInt16LE(at + 4), block.length);
      const nameBytes = block.readUInt8(at + 6);
      if (lengthBytes < 8 || lengthBytes % 4 !== 0 || at + lengthBytes > block.length) {
        throw malformed(`an entry of directory ${directory} has ${lengthBytes} bytes`);
      }
      // Entries of inode 0 are free space, nodes of the index, or the block's checksum.
      if (inode !== 0) {
        if (8 + nameBytes > lengthBytes) {
          throw malformed(`a name in directory ${directory} has ${nameBytes} bytes`);
        }
        const name = takeName(block.subarray(at + 8, at + 8 + nameBytes), directory);
        if (name !== undefined) yield { name, inode };
      }
      at += lengthBytes;
    }
  }

  #refuseEncrypted(node: FileNode): void {
    if ((flagsOf(node) & FLAGS.encrypted) === 0) return;
    throw new IngotError('source-unsupported', `inode ${node.inode} is encrypted`);
  }
}

function flagsOf({ raw }: FileNode): number {
  return raw.readUInt32LE(0x20);
}

function extInode({ inode, raw }: FileNode): ExtInode {
  return { number: inode, bytes: raw };
}

/** A block of 64 KiB does not fit into 16 bits: 0 and 65535 then mean the whole block. */
function recordLength(stored: number, blockBytes: number): number {
  return blockBytes === 65_536 && (stored === 0 || stored === 65_535) ? blockBytes : stored;
}
