import { isFailure } from '../../../base/index.ts';
import { type DiskState, type FilesystemMap, wholeMap } from '../filesystem-map.ts';
import { type MetadataReader, malformed } from '../metadata-reader.ts';
import { RunList } from '../run-list.ts';
import { BtrfsFiles } from './files.ts';
import { isFileTree, openBtrfs, ROOT_ITEM, rootPointer } from './roots.ts';
import { SUPERBLOCK_BYTES, SUPERBLOCK_OFFSETS, type TreePointer } from './superblock.ts';
import { type TreeContext, walkTree } from './tree.ts';

const ITEM = { extent: 168, metadata: 169 } as const;
const EXTENT_TREE = 2n;
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
  const context = await openBtrfs(disk);
  const { sb } = context;
  if (sb.hasLog && state !== 'live') throw malformed('a log needs to be replayed');
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
    if (item.type !== ROOT_ITEM) return;
    if (item.objectId === EXTENT_TREE) extents = rootPointer(item);
    if (isFileTree(item.objectId) && files.length <= MAX_FILE_TREES) files.push(rootPointer(item));
  });
  if (extents === undefined) throw malformed('it has no extent tree');
  return { extents, files };
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
