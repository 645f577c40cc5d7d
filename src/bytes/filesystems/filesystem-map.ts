import type { FileExtents } from '../extent.ts';
import { RunList } from './run-list.ts';

/**
 * What the caller knows about the moment that the bytes show.
 *
 * - `at-rest`: nothing; what the disk says about itself decides (a clean log, a clean journal);
 * - `frozen`: the filesystem is mounted and frozen, so all its metadata has been written even where
 *   it still marks itself as in use (ext2, XFS, f2fs);
 * - `live`: it is mounted and changes. The map is a guess that a later frozen reading corrects.
 */
export type DiskState = 'at-rest' | 'frozen' | 'live';

/** What one filesystem says about its own bytes; offsets count from its own start. */
export interface FilesystemMap {
  readonly filesystem: string | undefined;
  /** Everything that must be copied; the rest may be read as zeros. */
  readonly allocated: RunList;
  /** Undefined when the inode tables cannot be read. */
  readonly fileExtents: FileExtents | undefined;
  readonly notices: readonly string[];
}

/** Makes the map that is never wrong: all bytes, with the reasons. */
export function wholeMap(
  filesystem: string | undefined,
  sizeBytes: number,
  notices: readonly string[],
): FilesystemMap {
  const allocated = new RunList('join-gaps');
  allocated.add(0, sizeBytes);
  return { filesystem, allocated, fileExtents: undefined, notices };
}
