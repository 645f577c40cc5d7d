import { IngotError, MIB } from '../../../base/index.ts';
import type { ByteReader } from '../../byte-reader.ts';
import {
  type DirectoryEntry,
  type FileNode,
  type FilePlace,
  type FileTree,
  mustBeDirectory,
  PIECE_BYTES,
  takeName,
} from '../file-tree.ts';
import { MetadataReader, malformed } from '../metadata-reader.ts';
import { ClusterChains, type ClusterRun } from './chains.ts';
import { type FatGeometry, parseFatGeometry } from './geometry.ts';
import { ATTRIBUTES, ENTRY_BYTES, LongName, shortName } from './names.ts';

/** The top directory has no entry: it is named by a place where none can be. */
const ROOT_INODE = 1;
/** 65536 entries. */
const MAX_DIRECTORY_BYTES = 2 * MIB;
const FREE = 0xe5;
/** What a mount shows where nobody says otherwise: all of root, writable by it. */
const PERMISSIONS = 0o755;
const WRITE_BITS = 0o222;

/**
 * Reads files of a FAT12, FAT16 or FAT32 filesystem without mounting it.
 *
 * A file has no inode: its number is the place of its entry, counted in entries from the start of the
 * filesystem. Owners are root's and times are UTC, as a mount shows them.
 *
 * @see docs/formats/file-trees.md
 */
export class FatTree implements FileTree {
  readonly filesystem = 'vfat';
  readonly needsRecovery: boolean;
  readonly foldsCase = true;
  readonly #originBytes: number;
  readonly #disk: MetadataReader;
  readonly #fat: FatGeometry;
  readonly #chains: ClusterChains;

  private constructor(originBytes: number, disk: MetadataReader, fat: FatGeometry) {
    this.#originBytes = originBytes;
    this.#disk = disk;
    this.#fat = fat;
    this.#chains = new ClusterChains(disk, fat);
    this.needsRecovery = fat.isMarkedDirty;
  }

  /**
   * Opens the filesystem in a part of a disk.
   *
   * @param range where the partition lies
   * @throws IngotError `filesystem-malformed`
   */
  static async open(
    reader: ByteReader,
    range: { readonly offsetBytes: number; readonly sizeBytes: number },
    signal?: AbortSignal,
  ): Promise<FatTree> {
    const disk = new MetadataReader(reader, range, signal);
    const boot = await disk.read(0, 512, 'the boot sector');
    return new FatTree(range.offsetBytes, disk, parseFatGeometry(boot, range.sizeBytes));
  }

  root(): Promise<FileNode> {
    const raw = Buffer.alloc(ENTRY_BYTES);
    raw.writeUInt8(ATTRIBUTES.directory, 11);
    return Promise.resolve({ ...factsOf(raw), inode: ROOT_INODE, raw });
  }

  async node(inode: number): Promise<FileNode> {
    if (inode === ROOT_INODE) return await this.root();
    const entry = await this.#disk.read(inode * ENTRY_BYTES, ENTRY_BYTES, `entry ${inode}`);
    const attributes = entry.readUInt8(11);
    const isFree = entry[0] === FREE || entry[0] === 0;
    if (isFree || (attributes & ATTRIBUTES.label) !== 0)
      throw malformed(`entry ${inode} is no file`);
    const raw = Buffer.from(entry);
    return { ...factsOf(raw), inode, raw };
  }

  async *list(directory: FileNode): AsyncGenerator<DirectoryEntry, void, undefined> {
    mustBeDirectory(directory);
    const long = new LongName();
    for await (const { diskOffset, lengthBytes } of this.#directoryRuns(directory)) {
      for (let at = 0; at < lengthBytes; at += ENTRY_BYTES) {
        const offset = diskOffset + at;
        const entry = await this.#disk.read(offset, ENTRY_BYTES, 'a directory');
        const first = entry.readUInt8(0);
        if (first === 0) return;
        const attributes = entry.readUInt8(11);
        if (first === FREE) {
          long.drop();
        } else if ((attributes & 0x3f) === ATTRIBUTES.longName) {
          long.add(entry);
        } else if ((attributes & ATTRIBUTES.label) !== 0) {
          long.drop();
        } else {
          const name = takeName(long.take(entry) ?? shortName(entry), directory.inode);
          if (name !== undefined) yield { name, inode: offset / ENTRY_BYTES };
        }
      }
    }
  }

  readLink(link: FileNode): Promise<Buffer> {
    return Promise.reject(malformed(`entry ${link.inode} is no link`));
  }

  async *readFile(file: FileNode): AsyncGenerator<Buffer, void, undefined> {
    if (file.kind !== 'file') {
      throw new IngotError('path-refused', `entry ${file.inode} is a ${file.kind}, not a file`);
    }
    for await (const { diskOffset, lengthBytes } of this.#fileRuns(file)) {
      for (let done = 0; done < lengthBytes; done += PIECE_BYTES) {
        const piece = Math.min(PIECE_BYTES, lengthBytes - done);
        yield await this.#disk.read(diskOffset + done, piece, `the file of entry ${file.inode}`);
      }
    }
  }

  isSubvolume(): boolean {
    return false;
  }

  async placesOf(file: FileNode): Promise<FilePlace[] | undefined> {
    const places: FilePlace[] = [];
    let fileOffset = 0;
    for await (const { diskOffset, lengthBytes } of this.#fileRuns(file)) {
      places.push({ fileOffset, diskOffset: this.#originBytes + diskOffset, lengthBytes });
      if (places.length > MAX_RUNS) throw malformed(`entry ${file.inode} has too many runs`);
      fileOffset += lengthBytes;
    }
    return places;
  }

  async *#fileRuns(file: FileNode): AsyncGenerator<ClusterRun, void, undefined> {
    if (file.kind !== 'file' || file.sizeBytes === 0) return;
    const { sizeBytes } = file;
    yield* this.#chains.runs(this.#firstCluster(file), { maxBytes: sizeBytes, isWhole: true });
  }

  async *#directoryRuns(directory: FileNode): AsyncGenerator<ClusterRun, void, undefined> {
    const { rootBytes, rootOffsetBytes, rootCluster } = this.#fat;
    const isRoot = directory.inode === ROOT_INODE;
    if (isRoot && rootCluster === 0) {
      yield { diskOffset: rootOffsetBytes, lengthBytes: rootBytes };
      return;
    }
    const first = isRoot ? rootCluster : this.#firstCluster(directory);
    yield* this.#chains.runs(first, { maxBytes: MAX_DIRECTORY_BYTES, isWhole: false });
  }

  #firstCluster({ raw }: FileNode): number {
    const high = this.#fat.entryBits === 32 ? raw.readUInt16LE(20) : 0;
    return high * 0x10000 + raw.readUInt16LE(26);
  }
}

/** As many as other readers take. */
const MAX_RUNS = 2 ** 20;

function factsOf(entry: Buffer): Omit<FileNode, 'inode' | 'raw'> {
  const attributes = entry.readUInt8(11);
  const isDirectory = (attributes & ATTRIBUTES.directory) !== 0;
  const isReadOnly = (attributes & ATTRIBUTES.readOnly) !== 0;
  const modifiedAtNs = timeOf(entry.readUInt16LE(24), entry.readUInt16LE(22));
  return {
    kind: isDirectory ? 'directory' : 'file',
    permissions: isReadOnly ? PERMISSIONS & ~WRITE_BITS : PERMISSIONS,
    userId: 0,
    groupId: 0,
    sizeBytes: isDirectory ? 0 : entry.readUInt32LE(28),
    links: 1,
    modifiedAtNs,
    changedAtNs: modifiedAtNs,
  };
}

/** Times have no zone, and steps of two seconds; what was never set is 1980. */
function timeOf(date: number, time: number): bigint {
  const days = daysSince1970(
    1980 + (date >> 9),
    Math.max(1, (date >> 5) & 15),
    Math.max(1, date & 31),
  );
  const seconds = (time >> 11) * 3600 + ((time >> 5) & 63) * 60 + (time & 31) * 2;
  return (BigInt(days) * 86_400n + BigInt(seconds)) * 1_000_000_000n;
}

/** By the Gregorian calendar; a day or month that cannot be counts on into the next. */
function daysSince1970(year: number, month: number, day: number): number {
  // Counted from March on, so that the day which some years have more comes last.
  const shifted = month > 2 ? year : year - 1;
  const months = (month + 9) % 12;
  const leapDays = Math.floor(shifted / 4) - Math.floor(shifted / 100) + Math.floor(shifted / 400);
  return 365 * shifted + leapDays + Math.floor((153 * months + 2) / 5) + day - 1 - 719_468;
}
