import type { ByteReader } from '../byte-reader.ts';
import { BtrfsTree } from './btrfs/file-tree.ts';
import { ExtTree } from './ext/tree.ts';
import type { FileTree } from './file-tree.ts';
import { XfsTree } from './xfs/tree.ts';

/** Filesystems whose files can be read, as {@link readDiskLayout} names them. */
export const FILE_TREE_FILESYSTEMS: readonly string[] = ['ext', 'xfs', 'btrfs'];

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
  return undefined;
}
