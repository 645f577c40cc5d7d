import { isFailure } from '../../base/index.ts';
import { type DiskState, type FilesystemMap, wholeMap } from './filesystem-map.ts';
import { type MetadataReader, malformed } from './metadata-reader.ts';
import { RunList } from './run-list.ts';

/** A FAT is read in pieces; a multiple of three, so that no entry of 12 bits is cut. */
const PIECE_BYTES = 48 * 1024;

interface FatGeometry {
  readonly entryBits: 12 | 16 | 32;
  readonly fatOffsetBytes: number;
  readonly fatBytes: number;
  readonly fats: number;
  /** Where cluster 2 lies. */
  readonly dataOffsetBytes: number;
  readonly clusterBytes: number;
  readonly clusters: number;
  readonly isMarkedDirty: boolean;
  /** The first byte of every table is the media byte of the boot sector. */
  readonly media: number;
}

/**
 * Maps a FAT12, FAT16 or FAT32 filesystem: a cluster is free when its entry is 0 in every copy of
 * the table. Boot sectors, tables and the fixed root directory are always copied.
 *
 * @see docs/formats/disk-maps.md
 */
export async function readFatMap(disk: MetadataReader, state: DiskState): Promise<FilesystemMap> {
  try {
    const fat = parseGeometry(await disk.read(0, 512, 'the boot sector'), disk.sizeBytes);
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

function parseGeometry(boot: Buffer, sizeBytes: number): FatGeometry {
  const sectorBytes = boot.readUInt16LE(11);
  const clusterBytes = boot.readUInt8(13) * sectorBytes;
  const fats = boot.readUInt8(16);
  const rootBytes = boot.readUInt16LE(17) * 32;
  const sectors = boot.readUInt16LE(19) || boot.readUInt32LE(32);
  const shortFat = boot.readUInt16LE(22);
  const fatBytes = (shortFat || boot.readUInt32LE(36)) * sectorBytes;
  const fatOffsetBytes = boot.readUInt16LE(14) * sectorBytes;
  const rootSectorBytes = Math.ceil(rootBytes / sectorBytes) * sectorBytes;
  const dataOffsetBytes = fatOffsetBytes + fats * fatBytes + rootSectorBytes;
  const endBytes = sectors * sectorBytes;
  const clusters = Math.floor((endBytes - dataOffsetBytes) / clusterBytes);
  // The kernel's rule: a table length in the old field makes it FAT12 or FAT16, by the count.
  const entryBits = shortFat === 0 ? 32 : clusters > 4084 ? 16 : 12;
  if (endBytes > sizeBytes) throw malformed(`its ${endBytes} bytes are more than ${sizeBytes}`);
  if (!(clusters > 0)) throw malformed(`it has ${clusters} clusters`);
  if (Math.ceil(((clusters + 2) * entryBits) / 8) > fatBytes) {
    throw malformed(`a table of ${fatBytes} bytes is too short for ${clusters} clusters`);
  }
  const flags = boot.readUInt8(shortFat === 0 ? 0x41 : 0x25);
  return {
    entryBits,
    fatOffsetBytes,
    fatBytes,
    fats,
    dataOffsetBytes,
    clusterBytes,
    clusters,
    media: boot.readUInt8(21),
    isMarkedDirty: (flags & 1) !== 0,
  };
}

async function addClusters(
  disk: MetadataReader,
  fat: FatGeometry,
  allocated: RunList,
): Promise<void> {
  const perPiece = (PIECE_BYTES * 8) / fat.entryBits;
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
      if (copies.every((copy) => entryAt(copy, i, fat.entryBits) === 0)) continue;
      const offset = fat.dataOffsetBytes + (first + i - 2) * fat.clusterBytes;
      allocated.add(offset, offset + fat.clusterBytes);
    }
  }
}

function entryAt(table: Buffer, index: number, bits: FatGeometry['entryBits']): number {
  if (bits === 32) return table.readUInt32LE(index * 4) & 0x0fffffff;
  if (bits === 16) return table.readUInt16LE(index * 2);
  const at = index + (index >> 1);
  const pair = (table[at] ?? 0) | ((table[at + 1] ?? 0) << 8);
  return index % 2 === 0 ? pair & 0xfff : pair >> 4;
}
