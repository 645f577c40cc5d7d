import type { ByteReader } from '../byte-reader.ts';
import type { Extent, FileExtents } from '../extent.ts';
import { readExtMap } from './ext/ext-map.ts';
import { isExt, SUPERBLOCK } from './ext/superblock.ts';
import { type DiskState, type FilesystemMap, wholeMap } from './filesystem-map.ts';
import { MetadataReader } from './metadata-reader.ts';

/** One partition of a disk. */
export interface DiskPartition {
  /** As the kernel numbers it: `sda1` is 1, logical ones start at 5. */
  readonly number: number;
  readonly offsetBytes: number;
  readonly sizeBytes: number;
  readonly filesystem: string | undefined;
}

/** Which bytes of a disk or filesystem matter, and where its files lie. */
export interface DiskMap {
  /**
   * As blkid names it: `ext4`, `ext3`, `ext2`, `xfs`, `btrfs`, `vfat`, `swap`, `f2fs`; `disk` for a
   * partitioned disk; undefined when unknown.
   */
  readonly filesystem: string | undefined;
  /** Ascending, merged, inside the device: what must be copied; the rest may be read as zeros. */
  readonly allocated: readonly Extent[];
  /** Undefined when the inode tables cannot be read: cut by content. */
  readonly fileExtents: FileExtents | undefined;
  /** Where 4 KiB blocks are counted from: 0, for a partitioned disk as well. */
  readonly originBytes: number;
  /** Facts for the user, such as `ext4: the journal needs recovery: everything is copied`. */
  readonly notices: readonly string[];
  /** The partitions of a disk, else empty. */
  readonly partitions: readonly DiskPartition[];
}

/** How a disk is looked at. */
export interface DiskMapOptions {
  readonly signal?: AbortSignal;
  /** What the caller knows about the moment; `at-rest` unless given. */
  readonly state?: DiskState;
}

/**
 * Finds out which bytes of a disk matter and where its files lie.
 *
 * Never fails because of what the disk holds: on any doubt a region is copied whole and a notice
 * says why. Memory is bounded whatever the disk claims.
 *
 * @throws IngotError only what the reader throws; the signal's reason when it is aborted
 * @see docs/formats/disk-maps.md
 */
export async function readDiskMap(
  reader: ByteReader,
  options: DiskMapOptions = {},
): Promise<DiskMap> {
  const state = options.state ?? 'at-rest';
  const all = { offsetBytes: 0, sizeBytes: reader.sizeBytes };
  const map = await readFilesystemMap(new MetadataReader(reader, all, options.signal), state);
  return {
    filesystem: map.filesystem,
    allocated: [...map.allocated.extents()],
    fileExtents: map.fileExtents,
    originBytes: 0,
    notices: map.notices,
    partitions: [],
  };
}

/** Maps one filesystem, whichever it is. */
async function readFilesystemMap(disk: MetadataReader, state: DiskState): Promise<FilesystemMap> {
  const superblockEnd = SUPERBLOCK.offsetBytes + SUPERBLOCK.lengthBytes;
  if (disk.sizeBytes >= superblockEnd) {
    const head = await disk.read(0, superblockEnd, 'the first sectors');
    if (isExt(head.subarray(SUPERBLOCK.offsetBytes))) {
      return await readExtMap(disk, { state, dropsStale: true });
    }
  }
  return wholeMap(undefined, disk.sizeBytes, ['no known filesystem: everything is copied']);
}
