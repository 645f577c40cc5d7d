import type { FileNode } from '../../bytes/index.ts';
import { listFiles, sortedEntries, WalkGuard } from './list-files.ts';
import type { ImageTree } from './open-tree.ts';
import { hasSameContent } from './same-content.ts';

/** What differs about a file that both images have. */
export type ChangedFact = 'kind' | 'content' | 'target' | 'permissions' | 'owner';

/** One file that is not the same in both images. */
export type FileDifference =
  | {
      readonly change: 'added' | 'removed';
      readonly path: readonly Buffer[];
      readonly node: FileNode;
    }
  | {
      readonly change: 'changed';
      readonly path: readonly Buffer[];
      readonly before: FileNode;
      readonly node: FileNode;
      readonly facts: readonly ChangedFact[];
    };

/**
 * Compares the files of two images, in the order of their names.
 *
 * Contents are compared, not times: where both images have the same chunks nothing is read, else
 * the bytes are. Memory grows with the largest directory only.
 */
export async function* diffImages(
  before: ImageTree,
  after: ImageTree,
): AsyncGenerator<FileDifference, void, undefined> {
  const diff = new TreeDiff(before, after);
  yield* diff.directories(await before.tree.root(), await after.tree.root(), []);
}

class TreeDiff {
  readonly #before: ImageTree;
  readonly #after: ImageTree;
  readonly #guardBefore = new WalkGuard();
  readonly #guardAfter = new WalkGuard();

  constructor(before: ImageTree, after: ImageTree) {
    this.#before = before;
    this.#after = after;
  }

  async *directories(
    before: FileNode,
    after: FileNode,
    path: readonly Buffer[],
  ): AsyncGenerator<FileDifference, void, undefined> {
    this.#guardBefore.enter(before, path.length);
    this.#guardAfter.enter(after, path.length);
    const [old, now] = await Promise.all([
      sortedEntries(this.#before.tree, before),
      sortedEntries(this.#after.tree, after),
    ]);
    const names = [...new Set([...old.keys(), ...now.keys()])].sort();
    for (const name of names) {
      const below = [...path, Buffer.from(name, 'latin1')];
      const oldInode = old.get(name);
      const newInode = now.get(name);
      const oldNode = oldInode === undefined ? undefined : await this.#before.tree.node(oldInode);
      const newNode = newInode === undefined ? undefined : await this.#after.tree.node(newInode);
      yield* this.#nodes(oldNode, newNode, below);
    }
  }

  async *#nodes(
    before: FileNode | undefined,
    after: FileNode | undefined,
    path: readonly Buffer[],
  ): AsyncGenerator<FileDifference, void, undefined> {
    if (before !== undefined && after !== undefined) {
      yield* this.#both(before, after, path);
    } else if (before !== undefined) {
      yield { change: 'removed', path, node: before };
      yield* this.#below(this.#before, before, path, 'removed');
    } else if (after !== undefined) {
      yield { change: 'added', path, node: after };
      yield* this.#below(this.#after, after, path, 'added');
    }
  }

  async *#both(
    before: FileNode,
    after: FileNode,
    path: readonly Buffer[],
  ): AsyncGenerator<FileDifference, void, undefined> {
    const facts: ChangedFact[] = [];
    if (before.kind !== after.kind) facts.push('kind');
    else if (!(await this.#isSame(before, after))) {
      facts.push(before.kind === 'symlink' ? 'target' : 'content');
    }
    if (before.permissions !== after.permissions) facts.push('permissions');
    if (before.userId !== after.userId || before.groupId !== after.groupId) facts.push('owner');
    if (facts.length > 0) yield { change: 'changed', path, before, node: after, facts };
    if (before.kind === 'directory' && after.kind === 'directory') {
      yield* this.directories(before, after, path);
      return;
    }
    yield* this.#below(this.#before, before, path, 'removed');
    yield* this.#below(this.#after, after, path, 'added');
  }

  async #isSame(before: FileNode, after: FileNode): Promise<boolean> {
    if (before.kind === 'symlink') {
      const [old, now] = await Promise.all([
        this.#before.tree.readLink(before),
        this.#after.tree.readLink(after),
      ]);
      return old.equals(now);
    }
    if (before.kind !== 'file') return true;
    return await hasSameContent({ ...this.#before, file: before }, { ...this.#after, file: after });
  }

  /** Everything below a directory that only one of the images has. */
  async *#below(
    { tree }: ImageTree,
    node: FileNode,
    path: readonly Buffer[],
    change: 'added' | 'removed',
  ): AsyncGenerator<FileDifference, void, undefined> {
    if (node.kind !== 'directory') return;
    const guard = change === 'added' ? this.#guardAfter : this.#guardBefore;
    for await (const listed of listFiles(tree, node, { isRecursive: true, guard })) {
      yield { change, path: [...path, ...listed.path], node: listed.node };
    }
  }
}
