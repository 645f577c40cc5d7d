import { IngotError } from '../../base/index.ts';
import type { FileNode, FileTree } from '../../bytes/index.ts';

/** A directory that is read to be sorted has at most this many names. */
const MAX_SORTED_NAMES = 2 ** 20;
/** Directories below one another: more than any path of the kernel can name. */
const MAX_DEPTH = 2048;
/** Directories of one walk. */
const MAX_DIRECTORIES = 2 ** 22;

/** One name of an image. */
export interface ListedFile {
  /** Path from where the list began, in parts of raw bytes. */
  readonly path: readonly Buffer[];
  readonly node: FileNode;
  /** Where a link leads to. */
  readonly linkTarget: Buffer | undefined;
}

/** @returns the inodes of a directory by name, in the order of their bytes */
export async function sortedEntries(
  tree: FileTree,
  directory: FileNode,
): Promise<Map<string, number>> {
  const entries: [string, number][] = [];
  for await (const { name, inode } of tree.list(directory)) {
    // latin1 keeps every byte, and sorts as the bytes do.
    entries.push([name.toString('latin1'), inode]);
    if (entries.length > MAX_SORTED_NAMES) {
      throw new IngotError(
        'filesystem-malformed',
        `directory ${directory.inode} has more than ${MAX_SORTED_NAMES} names`,
      );
    }
  }
  entries.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  return new Map(entries);
}

/** Notices directories that are met twice: a damaged tree may contain itself. */
export class WalkGuard {
  readonly #seen = new Set<number>();

  /** @throws IngotError `filesystem-malformed` */
  enter(directory: FileNode, depth: number): void {
    if (this.#seen.has(directory.inode)) {
      throw new IngotError('filesystem-malformed', `directory ${directory.inode} has two parents`);
    }
    if (depth > MAX_DEPTH || this.#seen.size >= MAX_DIRECTORIES) {
      throw new IngotError('filesystem-malformed', 'there are too many directories');
    }
    this.#seen.add(directory.inode);
  }
}

/**
 * Lists a file, or what a directory holds, sorted by name.
 *
 * @param options `isRecursive`: with everything below
 */
export async function* listFiles(
  tree: FileTree,
  start: FileNode,
  { isRecursive, guard = new WalkGuard() }: ListOptions,
): AsyncGenerator<ListedFile, void, undefined> {
  if (start.kind !== 'directory') {
    yield await listed(tree, [], start);
    return;
  }
  yield* listDirectory(tree, start, [], isRecursive, guard);
}

/** How {@link listFiles} goes about it. */
export interface ListOptions {
  readonly isRecursive: boolean;
  /** The guard of a larger walk that this one is a part of. */
  readonly guard?: WalkGuard;
}

async function* listDirectory(
  tree: FileTree,
  directory: FileNode,
  path: readonly Buffer[],
  isRecursive: boolean,
  guard: WalkGuard,
): AsyncGenerator<ListedFile, void, undefined> {
  guard.enter(directory, path.length);
  for (const [name, inode] of await sortedEntries(tree, directory)) {
    const below = [...path, Buffer.from(name, 'latin1')];
    const node = await tree.node(inode);
    yield await listed(tree, below, node);
    if (isRecursive && node.kind === 'directory') {
      yield* listDirectory(tree, node, below, isRecursive, guard);
    }
  }
}

async function listed(
  tree: FileTree,
  path: readonly Buffer[],
  node: FileNode,
): Promise<ListedFile> {
  const linkTarget = node.kind === 'symlink' ? await tree.readLink(node) : undefined;
  return { path, node, linkTarget };
}
