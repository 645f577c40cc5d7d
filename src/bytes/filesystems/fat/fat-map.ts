import { isFailure } from '../../../base/index.ts';
import { type DiskState, type FilesystemMap, wholeMap } from '../filesystem-map.ts';
import { type MetadataReader, malformed } from '../metadata-reader.ts';
import { RunList } from '../run-list.ts';
import { FAT_PIECE_BYTES, type FatGeometry, fatEntryAt, parseFatGeometry } from './geometry.ts';

/**
 * Maps a FAT12, FAT16 or FAT32 filesystem: a cluster is free when its entry is 0 in every copy of
 * the table. Boot sectors, tables and the fixed root directory are always copied.
 *
 * @see docs/formats/disk-maps.md
 */
export async function readFatMap(disk: MetadataReader, state: DiskState): Promise<FilesystemMap> {
  try {
    const fat = parseFatGeometry(await disk.read(0, 512, 'the boot sector'), disk.sizeBytes);
    if (fat.isMarkedDirty && state === 'at-rest') {
      throw malformed('it was not unmounted cleanly');
    }
    const allocated = new RunList('join-gaps');
    allocated.add(0, fat.dataOffsetBytes);
    await addClusters(disk, fat, allocated);
    allocated.add(fat.dataOffsetBytes + fat.clusters * fat.clusterBytes, disk.sizeBytes);
    return { filesystem: 'vfat', allocated, fileExtents: undefined, notices: [] };
  } catch (thrown) {
    if (!isFailure(thrown, 'filesystem-malformed')) throw thrown;
    return wholeMap('vfat', disk.sizeBytes, [`vfat: ${thrown.message}: everything is copied`]);
  }
}

async function addClusters(
  disk: MetadataReader,
  fat: FatGeometry,
  allocated: RunList,
): Promise<void> {
  const perPiece = (FAT_PIECE_BYTES * 8) / fat.entryBits;
  for (let first = 0; first < fat.clusters + 2; first += perPiece) {
    const entries = Math.min(perPiece, fat.clusters + 2 - first);
    const at = fat.fatOffsetBytes + (first * fat.entryBits) / 8;
    const length = Math.ceil((entries * fat.entryBits) / 8);
    const copies: Buffer[] = [];
    for (let copy = 0; copy < fat.fats; copy++) {
      copies.push(await disk.read(at + copy * fat.fatBytes, length, 'a file allocation table'));
    }
    if (first === 0 && !copies.every((copy) => (copy[0] ?? 0) === fat.media)) {
      throw malformed('a file allocation table does not start with the media byte');
    }
    for (let i = first === 0 ? 2 : 0; i < entries; i++) {
      if (copies.every((copy) => fatEntryAt(copy, i, fat.entryBits) === 0)) continue;
      const offset = fat.dataOffsetBytes + (first + i - 2) * fat.clusterBytes;
      allocated.add(offset, offset + fat.clusterBytes);
    }
  }
}
