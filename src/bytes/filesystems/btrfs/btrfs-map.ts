import { isFailure } from '../../../base/index.ts';
import { type DiskState, type FilesystemMap, wholeMap } from '../filesystem-map.ts';
import { type MetadataReader, malformed } from '../metadata-reader.ts';
import { RunList } from '../run-list.ts';
import { ChunkMap } from './chunk-map.ts';
import { BtrfsFiles } from './files.ts';
import {
  parseBtrfsSuperblock,
  SUPERBLOCK_BYTES,
  SUPERBLOCK_OFFSETS,
  type TreePointer,
} from './superblock.ts';
import { type TreeContext, type TreeItem, walkTree } from './tree.ts';

const ITEM = { root: 132, extent: 168, metadata: 169, chunk: 228 } as const;
const TREE = { extents: 2n, files: 5n, firstSubvolume: 256n } as const;
const ROOT_ITEM_BYTES = 239;
/** No chunk ever lies in the first mebibyte: boot loaders do. */
const RESERVED_BYTES = 1024 * 1024;
/** More subvolumes and snapshots than this are cut by content. */
const MAX_FILE_TREES = 4096;

/**
 * Maps a btrfs filesystem of one device: what its extent tree lists, at every copy.
 *
 * Copy-on-write makes any committed state whole, so there is no unclean state; only a log of synced
 * files makes it doubtful.
 *
 * @see docs/formats/disk-maps.md
 */
export async function readBtrfsMap(disk: MetadataReader, state: DiskState): Promise<FilesystemMap> {
  try {
    return await readBelievable(disk, state);
  } catch (thrown) {
    if (!isFailure(thrown, 'filesystem-malformed')) throw thrown;
    return wholeMap('btrfs', disk.sizeBytes, [`btrfs: ${thrown.message}: everything is copied`]);
  }
}

interface Roots {
  readonly extents: TreePointer;
  readonly files: readonly TreePointer[];
}

async function readBelievable(disk: MetadataReader, state: DiskState): Promise<FilesystemMap> {
  const [primary] = SUPERBLOCK_OFFSETS;
  const bytes = await disk.read(primary, SUPERBLOCK_BYTES, 'the superblock');
  const sb = parseBtrfsSuperblock(bytes, disk.sizeBytes);
  if (sb.hasLog && state !== 'live') throw malformed('a log needs to be replayed');
  const context: TreeContext = { disk, sb, chunks: new ChunkMap(sb) };
  await walkTree(context, sb.chunkTree, (item) => {
    if (item.type === ITEM.chunk) context.chunks.add(Number(item.offset), item.data);
  });
  const roots = await readRoots(context);
  const allocated = new RunList('join-gaps');
  allocated.add(0, Math.min(RESERVED_BYTES, disk.sizeBytes));
  for (const offset of SUPERBLOCK_OFFSETS) {
    if (offset + SUPERBLOCK_BYTES <= disk.sizeBytes)
      allocated.add(offset, offset + SUPERBLOCK_BYTES);
  }
  const used = await addExtents(context, roots.extents, allocated);
  if (used !== sb.usedBytes) throw malformed(`its extents have ${used} bytes, not ${sb.usedBytes}`);
  allocated.add(sb.deviceBytes, disk.sizeBytes);
  const notices: string[] = [];
  const fileExtents = await readFiles(context, roots.files, notices);
  return { filesystem: 'btrfs', allocated, fileExtents, notices };
}

/** Adds every copy of every extent. @returns their bytes, each counted once */
async function addExtents(
  { disk, sb, chunks }: TreeContext,
  root: TreePointer,
  allocated: RunList,
): Promise<number> {
  let used = 0;
  await walkTree({ disk, sb, chunks }, root, (item) => {
    if (item.type !== ITEM.extent && item.type !== ITEM.metadata) return;
    const lengthBytes = item.type === ITEM.extent ? Number(item.offset) : sb.nodeBytes;
    for (const offset of chunks.locate(Number(item.objectId), lengthBytes)) {
      allocated.add(offset, offset + lengthBytes);
    }
    used += lengthBytes;
  });
  return used;
}

async function readRoots(context: TreeContext): Promise<Roots> {
  let extents: TreePointer | undefined;
  const files: TreePointer[] = [];
  await walkTree(context, context.sb.rootTree, (item) => {
    if (item.type !== ITEM.root) return;
    if (item.objectId === TREE.extents) extents = rootPointer(item);
    const isSubvolume =
      item.objectId === TREE.files ||
      (item.objectId >= TREE.firstSubvolume && BigInt.asIntN(64, item.objectId) > 0n);
    if (isSubvolume && files.length <= MAX_FILE_TREES) files.push(rootPointer(item));
  });
  if (extents === undefined) throw malformed('it has no extent tree');
  return { extents, files };
}

function rootPointer({ data }: TreeItem): TreePointer {
  if (data.length < ROOT_ITEM_BYTES) throw malformed(`a root item has ${data.length} bytes`);
  return {
    logical: Number(data.readBigUInt64LE(176)),
    level: data.readUInt8(238),
    generation: data.readBigUInt64LE(160),
  };
}

/** Cuts at file extents are worth it only where all files can be read. */
async function readFiles(
  context: TreeContext,
  trees: readonly TreePointer[],
  notices: string[],
): Promise<ReturnType<BtrfsFiles['finish']> | undefined> {
  try {
    if (trees.length > MAX_FILE_TREES) throw malformed(`it has more than ${MAX_FILE_TREES} trees`);
    const files = new BtrfsFiles(context.chunks);
    for (const tree of trees) await walkTree(context, tree, (item) => files.addItem(item));
    return files.finish();
  } catch (thrown) {
    if (!isFailure(thrown, 'filesystem-malformed')) throw thrown;
    notices.push(`btrfs: ${thrown.message}: cut by content`);
    return undefined;
  }
}
