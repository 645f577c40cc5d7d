import { isFailure } from '../../base/index.ts';
import type { ByteReader } from '../byte-reader.ts';
import type { Extent, FileExtents } from '../extent.ts';
import type { PartitionTable } from '../partitions/partition.ts';
import { readPartitionTable } from '../partitions/partition-table.ts';
import { readBtrfsMap } from './btrfs/btrfs-map.ts';
import { readExtMap } from './ext/ext-map.ts';
import { readF2fsMap } from './f2fs/f2fs-map.ts';
import { readFatMap } from './fat/fat-map.ts';
import { FileExtentList } from './file-extent-list.ts';
import { type DiskState, type FilesystemMap, wholeMap } from './filesystem-map.ts';
import { MetadataReader } from './metadata-reader.ts';
import { RunList } from './run-list.ts';
import { findSignatures, SIGNATURE_BYTES } from './signatures.ts';
import { readSwapMap } from './swap-map.ts';
import { readXfsMap } from './xfs/xfs-map.ts';

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
  /**
   * What the caller knows about the moment; `at-rest` unless given. For partitions `frozen` counts
   * as `at-rest`: some of them may not be mounted.
   */
  readonly state?: DiskState;
  /**
   * The disk's logical block size, in which an MBR counts. Unless given: 512 or 4096, whichever
   * leads to a filesystem.
   */
  readonly sectorBytes?: number | undefined;
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
  const disk = new MetadataReader(reader, all, options.signal);
  const signatures = await signaturesOf(disk);
  const table = await partitionTableOf(disk, signatures, options.sectorBytes);
  if (table !== undefined) return await mapPartitions(reader, table, options);
  const map = await readFilesystemMap(disk, signatures, state);
  return { ...map, allocated: [...map.allocated.extents()], originBytes: 0, partitions: [] };
}

async function signaturesOf(disk: MetadataReader): Promise<string[]> {
  const length = Math.min(disk.sizeBytes, SIGNATURE_BYTES);
  return findSignatures(await disk.read(0, length, 'the first sectors'));
}

/** Where a table cannot be believed, or a filesystem stands in its place, all is one partition. */
async function partitionTableOf(
  disk: MetadataReader,
  signatures: string[],
  sectorBytes: number | undefined,
): Promise<PartitionTable | undefined> {
  try {
    const table =
      sectorBytes === undefined
        ? await guessPartitionTable(disk)
        : await readPartitionTable(disk, sectorBytes);
    if (table === undefined || signatures.length === 0) return table;
  } catch (thrown) {
    if (!isFailure(thrown, 'filesystem-malformed')) throw thrown;
    const notices = [`${thrown.message}: everything is copied`];
    if (signatures.length === 0) return { partitions: [], notices };
  }
  // The boot sector of FAT has the mark of an MBR, and its code may look like entries.
  signatures.push('a partition table');
  return undefined;
}

/**
 * Reads the partition table of a disk that does not tell the size of its blocks, such as the image
 * of one: an MBR whose numbers lead to no filesystem, and in blocks of 4096 bytes to one, means these.
 */
async function guessPartitionTable(disk: MetadataReader): Promise<PartitionTable | undefined> {
  let table: PartitionTable | undefined;
  let failure: unknown;
  try {
    table = await readPartitionTable(disk, 512);
  } catch (thrown) {
    failure = thrown;
  }
  if (failure === undefined && (table === undefined || (await hasFilesystem(disk, table)))) {
    return table;
  }
  try {
    const other = await readPartitionTable(disk, 4096);
    if (other !== undefined && (await hasFilesystem(disk, other))) return other;
  } catch (thrown) {
    if (!isFailure(thrown, 'filesystem-malformed')) throw thrown;
  }
  if (failure !== undefined) throw failure;
  return table;
}

async function hasFilesystem(
  disk: MetadataReader,
  { partitions }: PartitionTable,
): Promise<boolean> {
  for (const { offsetBytes, sizeBytes } of partitions) {
    const length = Math.min(sizeBytes, SIGNATURE_BYTES);
    const head = await disk.read(offsetBytes, length, 'the first sectors of a partition');
    if (findSignatures(head).length > 0) return true;
  }
  return false;
}

/** Maps each partition by its own filesystem; all that lies outside of partitions is copied. */
async function mapPartitions(
  reader: ByteReader,
  table: PartitionTable,
  options: DiskMapOptions,
): Promise<DiskMap> {
  const allocated = outsideOf(table.partitions, reader.sizeBytes);
  const files = new FileExtentList();
  const notices = [...table.notices];
  const partitions: DiskPartition[] = [];
  let hasFiles = false;
  // Not all partitions need be mounted, and one that was left unclean is not made clean by the
  // freeze of another: here each must say itself that it is.
  const state = options.state === 'live' ? 'live' : 'at-rest';
  for (const partition of table.partitions) {
    const disk = new MetadataReader(reader, partition, options.signal);
    const map = await readFilesystemMap(disk, await signaturesOf(disk), state);
    allocated.addAll(map.allocated, partition.offsetBytes);
    if (map.fileExtents !== undefined) {
      files.addAll(map.fileExtents, partition.offsetBytes);
      hasFiles = true;
    }
    for (const notice of map.notices) notices.push(`partition ${partition.number}: ${notice}`);
    partitions.push({ ...partition, filesystem: map.filesystem });
  }
  return {
    filesystem: 'disk',
    allocated: [...allocated.extents()],
    fileExtents: hasFiles ? files.finish() : undefined,
    originBytes: 0,
    notices,
    partitions,
  };
}

function outsideOf(partitions: PartitionTable['partitions'], sizeBytes: number): RunList {
  const all = new RunList('join-gaps');
  all.add(0, sizeBytes);
  const inside = new RunList('forget-short');
  for (const partition of partitions) {
    inside.add(partition.offsetBytes, partition.offsetBytes + partition.sizeBytes);
  }
  return all.without(inside);
}

/** Maps one filesystem, whichever it is. */
async function readFilesystemMap(
  disk: MetadataReader,
  signatures: readonly string[],
  state: DiskState,
): Promise<FilesystemMap> {
  const [name, other] = signatures;
  if (name === undefined) {
    return wholeMap(undefined, disk.sizeBytes, ['no known filesystem: everything is copied']);
  }
  if (other !== undefined) {
    const notice = `signatures of ${signatures.join(' and ')}: everything is copied`;
    return wholeMap(undefined, disk.sizeBytes, [notice]);
  }
  if (name === 'ext') return await readExtMap(disk, { state, dropsStale: true });
  if (name === 'xfs') return await readXfsMap(disk, { state, dropsStale: true });
  if (name === 'btrfs') return await readBtrfsMap(disk, state);
  if (name === 'f2fs') return await readF2fsMap(disk, state);
  if (name === 'vfat') return await readFatMap(disk, state);
  if (name === 'swap') return await readSwapMap(disk);
  return wholeMap(name, disk.sizeBytes, [`${name} is not known: everything is copied`]);
}
