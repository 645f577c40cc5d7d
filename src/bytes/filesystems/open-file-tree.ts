import type { ByteReader } from '../byte-reader.ts';
import { BtrfsTree } from './btrfs/file-tree.ts';
import { ExtTree } from './ext/tree.ts';
import { FatTree } from './fat/tree.ts';
import type { FileTree } from './file-tree.ts';
import { XfsTree } from './xfs/tree.ts';

/** Filesystems of systems whose files can be read, as {@link readDiskLayout} names them. */
export const FILE_TREE_FILESYSTEMS: readonly string[] = ['ext', 'xfs', 'btrfs'];

/** Filesystems of boot partitions whose files can be read. */
export const BOOT_TREE_FILESYSTEMS: readonly string[] = ['vfat'];

/**
 * Opens the files of a filesystem in a part of a disk, without mounting it.
 *
 * @param filesystem as `readDiskLayout` named it
 * @param range where the partition lies
 * @returns undefined for a filesystem whose files are not read
 * @throws IngotError `filesystem-malformed`, and what the reader throws
 */
export async function openFileTree(
  reader: ByteReader,
  filesystem: string | undefined,
  range: { readonly offsetBytes: number; readonly sizeBytes: number },
  signal?: AbortSignal,
): Promise<FileTree | undefined> {
  if (filesystem === 'ext') return await ExtTree.open(reader, range, signal);
  if (filesystem === 'xfs') return await XfsTree.open(reader, range, signal);
  if (filesystem === 'btrfs') return await BtrfsTree.open(reader, range, signal);
  if (filesystem === 'vfat') return await FatTree.open(reader, range, signal);
  return undefined;
}
