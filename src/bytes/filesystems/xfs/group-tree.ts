import { type MetadataReader, malformed } from '../metadata-reader.ts';
import { blocksOfGroup, isXfsChecksumRight, type XfsSuperblock } from './superblock.ts';

const MAX_LEVELS = 9;

/** One kind of tree inside an allocation group. */
export interface GroupTree {
  readonly name: string;
  /** Magic without and with checksums. */
  readonly magics: readonly [string, string];
  readonly keyBytes: number;
  readonly recordBytes: number;
}

/** Free space by block number. */
export const FREE_SPACE_TREE: GroupTree = {
  name: 'free space tree',
  magics: ['ABTB', 'AB3B'],
  keyBytes: 8,
  recordBytes: 8,
};

/** Chunks of 64 inodes. */
export const INODE_TREE: GroupTree = {
  name: 'inode tree',
  magics: ['IABT', 'IAB3'],
  keyBytes: 4,
  recordBytes: 16,
};

/** Where a tree of a group starts. */
export interface TreeRoot {
  readonly group: number;
  readonly block: number;
  /** 1 for a single leaf. */
  readonly levels: number;
}

/**
 * Walks a tree of an allocation group in key order.
 *
 * Its leaves are reached through pointers alone, level by level. The first number of each record
 * must ascend over the whole tree, which ends any walk over blocks that point to each other.
 *
 * @param onRecord is called for each record; the buffer is valid during the call only
 * @throws IngotError `filesystem-malformed`
 */
export async function walkGroupTree(
  disk: MetadataReader,
  sb: XfsSuperblock,
  tree: GroupTree,
  root: TreeRoot,
  onRecord: (record: Buffer) => void | Promise<void>,
): Promise<void> {
  if (root.levels < 1 || root.levels > MAX_LEVELS) {
    throw malformed(`the ${tree.name} of group ${root.group} has ${root.levels} levels`);
  }
  let previous = -1;
  const visit = async (block: number, level: number): Promise<void> => {
    const node = await readNode(disk, sb, tree, { group: root.group, block, level });
    const header = sb.hasChecksums ? 56 : 16;
    const count = node.readUInt16BE(6);
    const isLeaf = level === 0;
    const entryBytes = isLeaf ? tree.recordBytes : tree.keyBytes + 4;
    const max = Math.floor((sb.blockBytes - header) / entryBytes);
    // Only a tree without any record has an empty leaf: its root.
    if (count > max || (count === 0 && root.levels > 1)) {
      throw malformed(`a block of the ${tree.name} has ${count} entries`);
    }
    for (let i = 0; i < count; i++) {
      if (!isLeaf) {
        const pointer = node.readUInt32BE(header + max * tree.keyBytes + i * 4);
        await visit(pointer, level - 1);
        continue;
      }
      const at = header + i * tree.recordBytes;
      const record = node.subarray(at, at + tree.recordBytes);
      const first = record.readUInt32BE(0);
      if (first <= previous) throw malformed(`the ${tree.name} of group ${root.group} is unsorted`);
      previous = first;
      const pending = onRecord(record);
      if (pending !== undefined) await pending;
    }
  };
  await visit(root.block, root.levels - 1);
}

async function readNode(
  disk: MetadataReader,
  sb: XfsSuperblock,
  tree: GroupTree,
  at: { readonly group: number; readonly block: number; readonly level: number },
): Promise<Buffer> {
  const what = `a block of the ${tree.name} of group ${at.group}`;
  if (at.block >= blocksOfGroup(sb, at.group)) throw malformed(`${what} is block ${at.block}`);
  const offset = (at.group * sb.groupBlocks + at.block) * sb.blockBytes;
  const node = await disk.read(offset, sb.blockBytes, what);
  const magic = node.toString('latin1', 0, 4);
  if (magic !== tree.magics[sb.hasChecksums ? 1 : 0]) throw malformed(`${what} has no magic`);
  if (node.readUInt16BE(4) !== at.level) {
    throw malformed(`${what} has level ${node.readUInt16BE(4)}, not ${at.level}`);
  }
  if (!sb.hasChecksums) return node;
  const isInPlace = node.readBigUInt64BE(16) * 512n === BigInt(offset);
  if (!isXfsChecksumRight(node, 52) || !isInPlace || node.readUInt32BE(48) !== at.group) {
    throw malformed(`${what} has a wrong checksum or is another one`);
  }
  return node;
}
