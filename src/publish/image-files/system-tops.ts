import type { FileNode, FileTree } from '../../bytes/index.ts';
import { sortedEntries } from './list-files.ts';

/** The top directory of an installed system. */
export interface SystemTop {
  readonly node: FileNode;
  /** From the filesystem's top; empty for that itself. */
  readonly path: Buffer;
}

const ETC = Buffer.from('etc');

/**
 * Finds where the directories of a system begin.
 *
 * That is the filesystem's top. Where this has no `etc`, a system may lie in a subvolume right below
 * (`@`, `root`), which its boot loader mounts by name; then those that have an `etc` are meant.
 *
 * @returns the filesystem's top when nothing else is found
 */
export async function findSystemTops(tree: FileTree): Promise<SystemTop[]> {
  const root = await tree.root();
  const top = { node: root, path: Buffer.alloc(0) };
  if ((await tree.lookUp(root, ETC)) !== undefined) return [top];
  const found: SystemTop[] = [];
  for (const [name, inode] of await sortedEntries(tree, root)) {
    const node = await tree.node(inode);
    if (!tree.isSubvolume(node) || (await tree.lookUp(node, ETC)) === undefined) continue;
    found.push({ node, path: Buffer.from(`/${name}`, 'latin1') });
  }
  return found.length === 0 ? [top] : found;
}
