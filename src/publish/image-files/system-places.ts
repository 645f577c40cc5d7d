import { type FileNode, type FileTree, lookUp } from '../../bytes/index.ts';
import { sortedEntries } from './list-files.ts';

/** A directory of a filesystem, and where an installed system has it. */
export interface SystemPlace {
  readonly node: FileNode;
  /** Its path from the outermost directory, in raw bytes; empty for that itself. */
  readonly path: Buffer;
  /** Its path in the running system; empty for the root. */
  readonly mountedAt: string;
}

const FSTAB_BYTES = 256 * 1024;
/** Subvolumes of one system; distributions make a dozen. */
const MAX_PLACES = 256;

/**
 * Finds where the directories of a system lie in a filesystem.
 *
 * The root is the filesystem's top. Where this has no `etc`, a system may lie in a subvolume right
 * below (`@`, `root`), which its boot loader mounts by name; then those that have an `etc` are meant.
 * Subvolumes that its `/etc/fstab` mounts follow; it names them from the outermost directory on, which
 * is more than the filesystem shows where it has a default subvolume (openSUSE).
 *
 * @returns roots first; the filesystem's top when nothing else is found. Paths begin at the outermost
 *   directory
 */
export async function findSystemPlaces(tree: FileTree): Promise<SystemPlace[]> {
  const outermost = await tree.outermost?.();
  const path = pathOf(outermost?.rootPath ?? []);
  const top = { node: await tree.root(), path, mountedAt: '' };
  const roots = (await hasEtc(tree, top.node)) ? [top] : await rootsBelow(tree, top);
  if (roots.length === 0) return [top];
  const places = [...roots];
  for (const root of roots) {
    for (const { subvolume, mountedAt } of await mountedSubvolumes(tree, root.node)) {
      const found = await findDirectory(tree, outermost?.node ?? top.node, subvolume);
      if (found !== undefined && places.length < MAX_PLACES) places.push({ ...found, mountedAt });
    }
  }
  return places;
}

async function hasEtc(tree: FileTree, directory: FileNode): Promise<boolean> {
  return (await lookUp(tree, directory, Buffer.from('etc')))?.kind === 'directory';
}

async function rootsBelow(tree: FileTree, top: SystemPlace): Promise<SystemPlace[]> {
  const found: SystemPlace[] = [];
  for (const [name, inode] of await sortedEntries(tree, top.node)) {
    const node = await tree.node(inode);
    if (!tree.isSubvolume(node) || !(await hasEtc(tree, node))) continue;
    const path = Buffer.concat([top.path, pathOf([Buffer.from(name, 'latin1')])]);
    found.push({ node, path, mountedAt: '' });
  }
  return found;
}

/**
 * Reads which subvolumes a system mounts, and where.
 *
 * @see fstab(5)
 */
async function mountedSubvolumes(
  tree: FileTree,
  root: FileNode,
): Promise<{ readonly subvolume: string; readonly mountedAt: string }[]> {
  if (tree.filesystem !== 'btrfs') return [];
  const etc = await lookUp(tree, root, Buffer.from('etc'));
  const fstab = etc && (await lookUp(tree, etc, Buffer.from('fstab')));
  if (fstab?.kind !== 'file' || fstab.sizeBytes > FSTAB_BYTES) return [];
  const pieces: Buffer[] = [];
  for await (const piece of tree.readFile(fstab)) pieces.push(Buffer.from(piece));
  const mounts = Buffer.concat(pieces).toString('utf8').split('\n');
  return mounts.flatMap((line) => {
    const [, mountPoint = '', filesystem, options = ''] = line.trim().split(/\s+/);
    const subvolume = /(?:^|,)subvol=([^,]+)/.exec(options)?.[1];
    const mountedAt = mountPoint.replace(/\/+$/, '');
    const isMeant = filesystem === 'btrfs' && mountedAt.startsWith('/') && !line.startsWith('#');
    return isMeant && subvolume !== undefined ? [{ subvolume, mountedAt }] : [];
  });
}

/** Finds a directory by its path from the outermost one; links are not followed. */
async function findDirectory(
  tree: FileTree,
  from: FileNode,
  path: string,
): Promise<{ readonly node: FileNode; readonly path: Buffer } | undefined> {
  const names = path
    .split('/')
    .filter((name) => name !== '')
    .map((name) => Buffer.from(name));
  let node = from;
  for (const name of names) {
    const next = await lookUp(tree, node, name);
    if (next?.kind !== 'directory') return undefined;
    node = next;
  }
  return { node, path: pathOf(names) };
}

const SLASH = Buffer.from('/');

function pathOf(names: readonly Buffer[]): Buffer {
  return Buffer.concat(names.flatMap((name) => [SLASH, name]));
}
