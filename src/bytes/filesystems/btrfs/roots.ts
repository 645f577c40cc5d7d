import { type MetadataReader, malformed } from '../metadata-reader.ts';
import { ChunkMap } from './chunk-map.ts';
import {
  parseBtrfsSuperblock,
  SUPERBLOCK_BYTES,
  SUPERBLOCK_OFFSETS,
  type TreePointer,
} from './superblock.ts';
import { type NodeCache, type TreeContext, type TreeItem, walkTree } from './tree.ts';

/** Type of the items of the root tree that name other trees. */
export const ROOT_ITEM = 132;
const CHUNK_ITEM = 228;
const ROOT_ITEM_BYTES = 239;
/** The top tree of files, and the first of its subvolumes. */
const FIRST_FILES = 5n;
const FIRST_SUBVOLUME = 256n;

/**
 * Opens what is needed to read any tree: superblock and chunk tree.
 *
 * @throws IngotError `filesystem-malformed`
 */
export async function openBtrfs(disk: MetadataReader, nodes?: NodeCache): Promise<TreeContext> {
  const [primary] = SUPERBLOCK_OFFSETS;
  const bytes = await disk.read(primary, SUPERBLOCK_BYTES, 'the superblock');
  const sb = parseBtrfsSuperblock(bytes, disk.sizeBytes);
  const chunks = new ChunkMap(sb);
  const context: TreeContext = { disk, sb, chunks, ...(nodes === undefined ? {} : { nodes }) };
  await walkTree(context, sb.chunkTree, (item) => {
    if (item.type === CHUNK_ITEM) chunks.add(Number(item.offset), item.data);
  });
  return context;
}

/** Reads where the tree of a root item begins. */
export function rootPointer({ data }: TreeItem): TreePointer {
  if (data.length < ROOT_ITEM_BYTES) throw malformed(`a root item has ${data.length} bytes`);
  return {
    logical: Number(data.readBigUInt64LE(176)),
    level: data.readUInt8(238),
    generation: data.readBigUInt64LE(160),
  };
}

/** Tells whether a tree holds files: the top one, or a subvolume. */
export function isFileTree(treeId: bigint): boolean {
  return treeId === FIRST_FILES || (treeId >= FIRST_SUBVOLUME && BigInt.asIntN(64, treeId) > 0n);
}
