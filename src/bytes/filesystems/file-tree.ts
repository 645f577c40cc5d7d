import { IngotError } from '../../base/index.ts';
import { malformed } from './metadata-reader.ts';

/** What a node of a file tree is. */
export type FileKind =
  | 'file'
  | 'directory'
  | 'symlink'
  | 'block-device'
  | 'char-device'
  | 'fifo'
  | 'socket';

/** What an inode says about a file. */
interface FileFacts {
  /** Unique in its tree; a tree of several subvolumes counts the subvolume in. */
  readonly inode: number;
  readonly kind: FileKind;
  /** Permissions with set-user-id, set-group-id and sticky: the low twelve bits of `st_mode`. */
  readonly permissions: number;
  readonly userId: number;
  readonly groupId: number;
  readonly sizeBytes: number;
  readonly links: number;
  /** Nanoseconds since 1970. */
  readonly modifiedAtNs: bigint;
  /** Nanoseconds since 1970 of the last change of the inode itself; nobody can set it. */
  readonly changedAtNs: bigint;
}

/** An inode that was read, and what it says. */
export interface FileNode extends FileFacts {
  /** The inode's bytes, for the reader that made the node. */
  readonly raw: Buffer;
}

/** One name in a directory. */
export interface DirectoryEntry {
  /** Any bytes but zero and slash; usually UTF-8. Never empty, never `.` or `..`. */
  readonly name: Buffer;
  readonly inode: number;
}

/** A run of a file's bytes on the disk. */
export interface FilePlace {
  readonly fileOffset: number;
  readonly diskOffset: number;
  readonly lengthBytes: number;
}

/**
 * The files of a filesystem that is not mounted.
 *
 * Memory does not grow with the filesystem; what the disk says is believed only after its ranges
 * were checked. A journal or log is not replayed: {@link needsRecovery} says so.
 *
 * Failures of all calls: `filesystem-malformed` for what cannot be, `source-unsupported` for what is
 * not read (encryption, a compression), and whatever the reader throws.
 *
 * @see docs/formats/file-trees.md
 */
export interface FileTree {
  /** As blkid names it: `ext4`, `xfs`, `btrfs`. */
  readonly filesystem: string;
  /** Whether the newest changes may still stand in the journal alone. */
  readonly needsRecovery: boolean;
  /** Whether names that differ in case alone are the same. */
  readonly foldsCase?: boolean;
  /** The top directory: what a mount without options shows. */
  root(): Promise<FileNode>;
  /**
   * The directory that everything lies in, where {@link root} may show a part of it only, and the path
   * from there to what root shows.
   */
  outermost?(): Promise<{ readonly node: FileNode; readonly rootPath: readonly Buffer[] }>;
  /** Reads an inode that a directory names. */
  node(inode: number): Promise<FileNode>;
  /** Yields the entries of a directory in the order in which they lie there. */
  list(directory: FileNode): AsyncGenerator<DirectoryEntry, void, undefined>;
  /** Reads where a symbolic link leads to. */
  readLink(link: FileNode): Promise<Buffer>;
  /** Yields the bytes of a file in pieces of at most 1 MiB, holes as zeros. They are read-only. */
  readFile(file: FileNode): AsyncGenerator<Buffer, void, undefined>;
  /**
   * Tells where the bytes of a file lie on the disk that the tree was opened on.
   *
   * @returns undefined when they do not lie there as they are (in the inode, compressed); else
   *   written runs in file order, cut at the file's size, with everything between them a hole
   */
  placesOf(file: FileNode): Promise<FilePlace[] | undefined>;
  /** Tells whether a directory is the top of a subvolume, other than the one that is shown. */
  isSubvolume(directory: FileNode): boolean;
}

/** Looks a name up in a directory. */
export async function lookUp(
  tree: FileTree,
  directory: FileNode,
  name: Buffer,
): Promise<FileNode | undefined> {
  const wanted = tree.foldsCase === true ? foldedName(name) : undefined;
  let similar: number | undefined;
  for await (const entry of tree.list(directory)) {
    if (entry.name.equals(name)) return await tree.node(entry.inode);
    if (wanted !== undefined && foldedName(entry.name) === wanted) similar ??= entry.inode;
  }
  return similar === undefined ? undefined : await tree.node(similar);
}

function foldedName(name: Buffer): string {
  return name.toString().toLowerCase();
}

/** @throws IngotError `path-refused` */
export function mustBeDirectory({ kind, inode }: FileNode): void {
  if (kind !== 'directory') throw new IngotError('path-refused', `inode ${inode} is no directory`);
}

/** @throws IngotError `filesystem-malformed`, also for a link longer than any path */
export function mustBeLink({ kind, inode, sizeBytes }: FileNode): void {
  if (kind !== 'symlink') throw malformed(`inode ${inode} is no link`);
  if (sizeBytes > MAX_LINK_BYTES) throw malformed(`link ${inode} has ${sizeBytes} bytes`);
}

/** As much of a file as is read at once. */
export const PIECE_BYTES = 1024 * 1024;
/** The kernel's own limit for a path, and so for a link. */
const MAX_LINK_BYTES = 4096;

const KINDS: Readonly<Record<number, FileKind>> = {
  4096: 'fifo',
  8192: 'char-device',
  16384: 'directory',
  24576: 'block-device',
  32768: 'file',
  40960: 'symlink',
  49152: 'socket',
};

/**
 * Tells what a file is by its `st_mode`.
 *
 * @throws IngotError `filesystem-malformed` for an inode that no name may point to
 */
export function kindOf(inode: number, mode: number, links: number): FileKind {
  const kind = KINDS[mode & 0xf000];
  if (kind !== undefined && links > 0) return kind;
  throw malformed(`inode ${inode} is no file: mode 0x${mode.toString(16)}, ${links} links`);
}

const DOT = Buffer.from('.');
const DOTS = Buffer.from('..');

/**
 * Takes a name out of a directory.
 *
 * @param bytes may be shared; the result is a copy
 * @returns undefined for `.` and `..`
 * @throws IngotError `filesystem-malformed` for a name that no kernel would make
 */
export function takeName(bytes: Buffer, directory: number): Buffer | undefined {
  if (bytes.length === 0 || bytes.includes(0) || bytes.includes(0x2f)) {
    throw malformed(`a name in directory ${directory} is empty or has a zero or a slash`);
  }
  return bytes.equals(DOT) || bytes.equals(DOTS) ? undefined : Buffer.from(bytes);
}

const ZEROS = Buffer.alloc(PIECE_BYTES);

/** Yields zeros in pieces; they are read-only. A length below 1 yields nothing. */
export function* zeros(lengthBytes: number): Generator<Buffer, void, undefined> {
  for (let rest = lengthBytes; rest > 0; rest -= PIECE_BYTES) {
    yield ZEROS.subarray(0, Math.min(rest, PIECE_BYTES));
  }
}
