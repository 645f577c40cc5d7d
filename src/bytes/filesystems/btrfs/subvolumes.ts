import { malformed } from '../metadata-reader.ts';
import { isFileTree, ROOT_ITEM, rootPointer } from './roots.ts';
import type { TreePointer } from './superblock.ts';
import { type TreeContext, walkTree } from './tree.ts';

const ROOT_REF = 156;
const DIR_ITEM = 84;
/** The directory in the root tree that names the default subvolume. */
const NAMES_OBJECT = 6n;
const TOP_TREE = 5n;
/** More than this many subvolumes and snapshots are not read. */
const MAX_SUBVOLUMES = 4094;

/** The directory entry that a subvolume is reached by. */
export interface ParentEntry {
  readonly tree: bigint;
  readonly directory: bigint;
  readonly name: Buffer;
}

/** A tree of files: the top one, a subvolume or a snapshot. */
export interface Subvolume {
  /** Position among all of them. */
  readonly index: number;
  readonly treeId: bigint;
  readonly root: TreePointer;
}

/** All subvolumes of a filesystem. */
export class Subvolumes {
  readonly default: Subvolume;
  readonly #all: readonly Subvolume[];
  readonly #byTree: ReadonlyMap<bigint, Subvolume>;
  readonly #parents: ReadonlyMap<bigint, ParentEntry>;

  private constructor(
    all: readonly Subvolume[],
    parents: ReadonlyMap<bigint, ParentEntry>,
    defaultTree: bigint,
  ) {
    this.#all = all;
    this.#byTree = new Map(all.map((subvolume) => [subvolume.treeId, subvolume]));
    this.#parents = parents;
    this.default = this.ofTree(defaultTree);
  }

  /** @throws IngotError `filesystem-malformed` */
  static async read(context: TreeContext): Promise<Subvolumes> {
    const all: Subvolume[] = [];
    const parents = new Map<bigint, ParentEntry>();
    let defaultTree = TOP_TREE;
    await walkTree(context, context.sb.rootTree, (item) => {
      const { objectId, type, offset, data } = item;
      if (type === ROOT_ITEM && isFileTree(objectId)) {
        all.push({ index: all.length, treeId: objectId, root: rootPointer(item) });
      } else if (type === ROOT_REF) {
        parents.set(offset, { tree: objectId, ...parseRootRef(data) });
      } else if (type === DIR_ITEM && objectId === NAMES_OBJECT) {
        const { name, target } = parseDirectoryItem(data);
        if (name.equals(Buffer.from('default'))) defaultTree = target.objectId;
      }
      if (Math.max(all.length, parents.size) > MAX_SUBVOLUMES) {
        throw malformed(`it has more than ${MAX_SUBVOLUMES} subvolumes`);
      }
    });
    return new Subvolumes(all, parents, defaultTree);
  }

  at(index: number): Subvolume {
    const found = this.#all[index];
    if (found === undefined) throw malformed(`there is no subvolume of number ${index}`);
    return found;
  }

  /** @throws IngotError `filesystem-malformed` */
  ofTree(treeId: bigint): Subvolume {
    const found = this.#byTree.get(treeId);
    if (found === undefined) throw malformed(`there is no tree ${treeId}`);
    return found;
  }

  /** The subvolume that all others lie in. @throws IngotError `filesystem-malformed` */
  get top(): Subvolume {
    return this.ofTree(TOP_TREE);
  }

  /** Where a subvolume is reached; the top one nowhere. */
  entryOf(treeId: bigint): ParentEntry | undefined {
    return this.#parents.get(treeId);
  }

  /**
   * Finds the subvolume that a directory entry leads to.
   *
   * @returns undefined for what a snapshot has in place of a subvolume inside of its origin, and of
   *   one that is gone: an empty directory
   */
  entered(treeId: bigint, by: ParentEntry): Subvolume | undefined {
    const parent = this.#parents.get(treeId);
    const isIts =
      parent?.tree === by.tree && parent.directory === by.directory && parent.name.equals(by.name);
    return isIts ? this.#byTree.get(treeId) : undefined;
  }
}

function parseRootRef(data: Buffer): { readonly directory: bigint; readonly name: Buffer } {
  if (data.length < 18 || data.length < 18 + data.readUInt16LE(16)) {
    throw malformed(`a reference of a subvolume has ${data.length} bytes`);
  }
  return {
    directory: data.readBigUInt64LE(0),
    name: Buffer.from(data.subarray(18, 18 + data.readUInt16LE(16))),
  };
}

/** What a directory entry leads to: an inode of the same tree, or another tree. */
interface EntryTarget {
  readonly objectId: bigint;
  readonly isSubvolume: boolean;
}

/**
 * Reads a directory entry.
 *
 * @returns `name` shares memory with `data`
 * @throws IngotError `filesystem-malformed`
 */
export function parseDirectoryItem(data: Buffer): {
  readonly name: Buffer;
  readonly target: EntryTarget;
} {
  const nameBytes = data.length < 30 ? 0 : data.readUInt16LE(27);
  if (nameBytes === 0 || 30 + nameBytes > data.length) {
    throw malformed(`a directory entry has ${data.length} bytes`);
  }
  const type = data.readUInt8(8);
  if (type !== INODE_ITEM && type !== ROOT_ITEM) {
    throw malformed(`a directory entry leads to an item of type ${type}`);
  }
  return {
    name: data.subarray(30, 30 + nameBytes),
    target: { objectId: data.readBigUInt64LE(0), isSubvolume: type === ROOT_ITEM },
  };
}

/** Type of the items that hold inodes. */
export const INODE_ITEM = 1;
