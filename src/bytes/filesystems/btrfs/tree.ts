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
  /** Nodes that were checked already, for whoever looks up one item after another. */
  readonly nodes?: NodeCache;
}

/** Where a node lies, and the node. */
export type NodeCache = Map<number, { readonly pointer: TreePointer; readonly node: Buffer }>;

/** Four paths of trees, each of them as deep as a tree can be. */
const MAX_CACHED_NODES = 32;

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
        await visit(pointerAt(node, at, pointer.level));
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

/** The name of an item; items ascend by it. */
export type TreeKey = Pick<TreeItem, 'objectId' | 'type' | 'offset'>;

/**
 * Yields the items of a tree in key order, from a key on; the checks are those of {@link walkTree}.
 *
 * @throws IngotError `filesystem-malformed`
 */
export async function* itemsFrom(
  context: TreeContext,
  root: TreePointer,
  from: TreeKey,
): AsyncGenerator<TreeItem, void, undefined> {
  if (root.level > MAX_LEVEL) throw malformed(`a tree has ${root.level} levels`);
  let last: TreeKey = { objectId: -1n, type: 0, offset: 0n };
  for await (const item of below(context, root, from)) {
    if (!isAbove(item, last)) throw malformed('the keys of a tree do not ascend');
    last = item;
    yield item;
  }
}

async function* below(
  context: TreeContext,
  pointer: TreePointer,
  from: TreeKey,
): AsyncGenerator<TreeItem, void, undefined> {
  const node = await readNode(context, pointer);
  const count = node.readUInt32LE(96);
  const entryBytes = pointer.level === 0 ? ITEM_BYTES : POINTER_BYTES;
  if (HEADER_BYTES + count * entryBytes > node.length)
    throw malformed(`a node has ${count} entries`);
  const first = firstAbove(node, { count, entryBytes }, from);
  if (pointer.level === 0) {
    const isEqual =
      first > 0 && !isAbove(from, keyAt(node, HEADER_BYTES + (first - 1) * entryBytes));
    for (let i = isEqual ? first - 1 : first; i < count; i++) {
      yield parseItem(node, HEADER_BYTES + i * ITEM_BYTES);
    }
    return;
  }
  // What is wanted may lie below the last key that is not above it.
  for (let i = Math.max(0, first - 1); i < count; i++) {
    yield* below(context, pointerAt(node, HEADER_BYTES + i * POINTER_BYTES, pointer.level), from);
  }
}

/** @returns index of the first entry whose key is above `key` */
function firstAbove(
  node: Buffer,
  { count, entryBytes }: { readonly count: number; readonly entryBytes: number },
  key: TreeKey,
): number {
  let [low, high] = [0, count];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (isAbove(keyAt(node, HEADER_BYTES + middle * entryBytes), key)) high = middle;
    else low = middle + 1;
  }
  return low;
}

function keyAt(node: Buffer, at: number): TreeKey {
  return {
    objectId: node.readBigUInt64LE(at),
    type: node.readUInt8(at + 8),
    offset: node.readBigUInt64LE(at + 9),
  };
}

function pointerAt(node: Buffer, at: number, level: number): TreePointer {
  return {
    logical: Number(node.readBigUInt64LE(at + 17)),
    level: level - 1,
    generation: node.readBigUInt64LE(at + 25),
  };
}

function isAbove(key: TreeKey, other: TreeKey): boolean {
  if (key.objectId !== other.objectId) return key.objectId > other.objectId;
  if (key.type !== other.type) return key.type > other.type;
  return key.offset > other.offset;
}

function parseItem(node: Buffer, at: number): TreeItem {
  const start = HEADER_BYTES + node.readUInt32LE(at + 17);
  const end = start + node.readUInt32LE(at + 21);
  if (end > node.length) throw malformed(`an item ends at ${end} of ${node.length}`);
  return {
    ...keyAt(node, at),
    data: node.subarray(start, end),
  };
}

async function readNode(context: TreeContext, pointer: TreePointer): Promise<Buffer> {
  const { nodes } = context;
  const known = nodes?.get(pointer.logical);
  const isSame =
    known?.pointer.level === pointer.level && known.pointer.generation === pointer.generation;
  const node = isSame ? known.node : await readNodeFromDisk(context, pointer);
  if (nodes !== undefined) {
    nodes.delete(pointer.logical);
    nodes.set(pointer.logical, { pointer, node });
    const [oldest] = nodes.keys();
    if (nodes.size > MAX_CACHED_NODES && oldest !== undefined) nodes.delete(oldest);
  }
  return node;
}

async function readNodeFromDisk(
  { disk, sb, chunks }: TreeContext,
  pointer: TreePointer,
): Promise<Buffer> {
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
