import { IngotError } from '../../base/index.ts';
import {
  BOOT_TREE_FILESYSTEMS,
  type DiskPartition,
  FILE_TREE_FILESYSTEMS,
  type FileTree,
  openFileTree,
  readDiskLayout,
} from '../../bytes/index.ts';
import type { FeedReader } from './feed-reader.ts';

/** The files of one filesystem of an image. */
export interface ImageTree {
  readonly tree: FileTree;
  readonly reader: FeedReader;
  /** Undefined for an image that is not partitioned. */
  readonly partition: number | undefined;
}

/**
 * Opens the filesystem of an image, or of one of its partitions.
 *
 * @param partition needed only when several could be meant
 * @throws IngotError `source-unsupported` when there is no ext2, ext3, ext4, XFS, btrfs or FAT; the
 *   message says what is there. `request-invalid` when several could be meant. `filesystem-malformed`
 */
export async function openImageTree(
  reader: FeedReader,
  partition: number | undefined,
  signal?: AbortSignal,
): Promise<ImageTree> {
  const layout = await readDiskLayout(reader, signal);
  if (layout.partitions.length === 0 && partition === undefined) {
    const whole = { offsetBytes: 0, sizeBytes: reader.sizeBytes };
    return { tree: await openTree(reader, whole, layout.filesystem, signal), reader, partition };
  }
  const chosen = choosePartition(layout.partitions, partition);
  const tree = await openTree(reader, chosen, chosen.filesystem, signal);
  return { tree, reader, partition: chosen.number };
}

async function openTree(
  reader: FeedReader,
  range: { readonly offsetBytes: number; readonly sizeBytes: number },
  filesystem: string | undefined,
  signal: AbortSignal | undefined,
): Promise<FileTree> {
  const tree = await openFileTree(reader, filesystem, range, signal);
  if (tree !== undefined) return tree;
  const what = filesystem ?? 'no known filesystem';
  throw new IngotError(
    'source-unsupported',
    `it holds ${what}; files can be read from ext2, ext3, ext4, XFS, btrfs and FAT`,
  );
}

function choosePartition(
  partitions: readonly DiskPartition[],
  number: number | undefined,
): DiskPartition {
  if (number !== undefined) {
    const named = partitions.find((partition) => partition.number === number);
    if (named !== undefined) return named;
    throw new IngotError(
      'file-not-found',
      `there is no partition ${number}: ${listed(partitions)}`,
    );
  }
  const holding = (names: readonly string[]): DiskPartition[] =>
    partitions.filter(({ filesystem = '' }) => names.includes(filesystem));
  // A boot partition is meant only where nothing else could be.
  const systems = holding(FILE_TREE_FILESYSTEMS);
  const readable = systems.length > 0 ? systems : holding(BOOT_TREE_FILESYSTEMS);
  const [only, ...others] = readable;
  if (only !== undefined && others.length === 0) return only;
  throw new IngotError(
    only === undefined ? 'source-unsupported' : 'request-invalid',
    only === undefined
      ? `no partition holds ext2, ext3, ext4, XFS, btrfs or FAT: ${listed(partitions)}`
      : `several partitions could be meant (IMAGE:PARTITION:PATH): ${listed(readable)}`,
  );
}

function listed(partitions: readonly DiskPartition[]): string {
  const all = partitions.map(({ number, filesystem }) => `${number} (${filesystem ?? 'unknown'})`);
  return all.length === 0 ? 'it is not partitioned' : all.join(', ');
}
