import type { ByteReader } from '../byte-reader.ts';
import { readPartitionTable } from '../partitions/partition-table.ts';
import type { DiskPartition } from './disk-map.ts';
import { MetadataReader } from './metadata-reader.ts';
import { findSignatures, SIGNATURE_BYTES } from './signatures.ts';

/** What lies on a disk, found by reading a few sectors only. */
export interface DiskLayout {
  /** Filesystem of an unpartitioned disk: `ext` (2, 3 or 4), `xfs`, `vfat`, …; else undefined. */
  readonly filesystem: string | undefined;
  readonly partitions: readonly DiskPartition[];
}

/**
 * Finds out how a disk is divided and which filesystems it holds, without reading their maps.
 *
 * @throws IngotError `filesystem-malformed` when a partition table cannot be believed
 */
export async function readDiskLayout(
  reader: ByteReader,
  signal?: AbortSignal,
): Promise<DiskLayout> {
  const disk = new MetadataReader(reader, { offsetBytes: 0, sizeBytes: reader.sizeBytes }, signal);
  const filesystem = await filesystemOf(disk);
  // A partition table in front of a filesystem is an old one, or the other way round; the
  // filesystem is what a mount of the whole disk would find.
  if (filesystem !== undefined) return { filesystem, partitions: [] };
  const table = await readPartitionTable(disk);
  const partitions: DiskPartition[] = [];
  for (const partition of table?.partitions ?? []) {
    const inside = new MetadataReader(reader, partition, signal);
    partitions.push({ ...partition, filesystem: await filesystemOf(inside) });
  }
  return { filesystem: undefined, partitions };
}

async function filesystemOf(disk: MetadataReader): Promise<string | undefined> {
  const length = Math.min(SIGNATURE_BYTES, disk.sizeBytes);
  const found = findSignatures(await disk.read(0, length, 'the first sectors'));
  return found.length > 1 ? found.join(' or ') : found[0];
}
