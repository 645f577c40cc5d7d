import { isFailure } from '../../../base/index.ts';
import { type MetadataReader, malformed } from '../metadata-reader.ts';
import type { ChunkMap } from './chunk-map.ts';
import { type BtrfsSuperblock, isChecksumRight, type TreePointer } from './superblock.ts';

const HEADER_BYTES = 101;
const ITEM_BYTES = 25;
const POINTER_BYTES = 33;
const MAX_LEVEL = 7;

/** Key and content of an item of a tree. */
export interface TreeItem {
  readonly objectId: bigint;
  readonly type: number;
  readonly offset: bigint;
  /** Valid during the call only. */
  readonly data: Buffer;
}

/** What trees are read with. */
export interface TreeContext {
  readonly disk: MetadataReader;
  readonly sb: BtrfsSuperblock;
  readonly chunks: ChunkMap;
}

/**
 * Walks a tree in key order.
 *
 * Every node must have the right checksum, address, level, generation and filesystem; of a DUP
 * chunk the second copy is tried. Keys must ascend over the whole tree, which ends any walk over
 * nodes that point to each other.
 *
 * @throws IngotError `filesystem-malformed`
 */
export async function walkTree(
  context: TreeContext,
  root: TreePointer,
  onItem: (item: TreeItem) => void,
): Promise<void> {
  if (root.level > MAX_LEVEL) throw malformed(`a tree has ${root.level} levels`);
  let last = { objectId: -1n, type: 0, offset: 0n };
  const visit = async (pointer: TreePointer): Promise<void> => {
    const node = await readNode(context, pointer);
    const count = node.readUInt32LE(96);
    const entryBytes = pointer.level === 0 ? ITEM_BYTES : POINTER_BYTES;
    if (HEADER_BYTES + count * entryBytes > node.length || (count === 0 && pointer !== root)) {
      throw malformed(`a node has ${count} entries`);
    }
    for (let i = 0; i < count; i++) {
      const at = HEADER_BYTES + i * entryBytes;
      if (pointer.level > 0) {
        await visit({
          logical: Number(node.readBigUInt64LE(at + 17)),
          level: pointer.level - 1,
          generation: node.readBigUInt64LE(at + 25),
        });
        continue;
      }
      const item = parseItem(node, at);
      if (!isAbove(item, last)) throw malformed('the keys of a tree do not ascend');
      last = { objectId: item.objectId, type: item.type, offset: item.offset };
      onItem(item);
    }
  };
  await visit(root);
}

type Key = Pick<TreeItem, 'objectId' | 'type' | 'offset'>;

function isAbove(key: Key, other: Key): boolean {
  if (key.objectId !== other.objectId) return key.objectId > other.objectId;
  if (key.type !== other.type) return key.type > other.type;
  return key.offset > other.offset;
}

function parseItem(node: Buffer, at: number): TreeItem {
  const start = HEADER_BYTES + node.readUInt32LE(at + 17);
  const end = start + node.readUInt32LE(at + 21);
  if (end > node.length) throw malformed(`an item ends at ${end} of ${node.length}`);
  return {
    objectId: node.readBigUInt64LE(at),
    type: node.readUInt8(at + 8),
    offset: node.readBigUInt64LE(at + 9),
    data: node.subarray(start, end),
  };
}

async function readNode({ disk, sb, chunks }: TreeContext, pointer: TreePointer): Promise<Buffer> {
  const what = `the tree node at ${pointer.logical}`;
  for (const offset of chunks.locate(pointer.logical, sb.nodeBytes)) {
    try {
      const node = await disk.read(offset, sb.nodeBytes, what);
      if (isNode(node, sb, pointer)) return node;
    } catch (thrown) {
      if (!isFailure(thrown, 'filesystem-malformed')) throw thrown;
    }
  }
  throw malformed(`${what} is damaged`);
}

function isNode(node: Buffer, sb: BtrfsSuperblock, pointer: TreePointer): boolean {
  return (
    isChecksumRight(node, sb.checksum) &&
    node.subarray(32, 48).equals(sb.nodeUuid) &&
    Number(node.readBigUInt64LE(48)) === pointer.logical &&
    node.readBigUInt64LE(80) === pointer.generation &&
    node.readUInt8(100) === pointer.level
  );
}
