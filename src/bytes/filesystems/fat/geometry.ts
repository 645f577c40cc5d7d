import { malformed } from '../metadata-reader.ts';

/** A FAT is read in pieces; a multiple of three, so that no entry of 12 bits is cut. */
export const FAT_PIECE_BYTES: number = 48 * 1024;

/** Where the parts of a FAT filesystem lie, in bytes from its start. */
export interface FatGeometry {
  readonly entryBits: 12 | 16 | 32;
  readonly fatOffsetBytes: number;
  readonly fatBytes: number;
  readonly fats: number;
  /** The fixed root directory of FAT12 and FAT16; FAT32 has none. */
  readonly rootBytes: number;
  readonly rootOffsetBytes: number;
  /** Where the root directory of FAT32 begins; else 0. */
  readonly rootCluster: number;
  /** The copy of the table that is true, where they are not all kept alike. */
  readonly activeFat: number;
  /** Where cluster 2 lies. */
  readonly dataOffsetBytes: number;
  readonly clusterBytes: number;
  readonly clusters: number;
  readonly isMarkedDirty: boolean;
  /** The first byte of every table is the media byte of the boot sector. */
  readonly media: number;
}

/**
 * Reads the boot sector.
 *
 * @param sizeBytes of the disk or partition
 * @throws IngotError `filesystem-malformed` for what cannot be
 * @see docs/formats/disk-maps.md
 */
export function parseFatGeometry(boot: Buffer, sizeBytes: number): FatGeometry {
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
  // FAT32 may keep one copy only, and then says which.
  const mirroring = shortFat === 0 ? boot.readUInt16LE(40) : 0;
  const activeFat = (mirroring & 0x80) === 0 ? 0 : mirroring & 0xf;
  if (activeFat >= fats) throw malformed(`table ${activeFat} of ${fats} is to be used`);
  const flags = boot.readUInt8(shortFat === 0 ? 0x41 : 0x25);
  return {
    entryBits,
    fatOffsetBytes,
    fatBytes,
    fats,
    rootBytes: shortFat === 0 ? 0 : rootBytes,
    rootOffsetBytes: fatOffsetBytes + fats * fatBytes,
    rootCluster: shortFat === 0 ? boot.readUInt32LE(44) : 0,
    activeFat,
    dataOffsetBytes,
    clusterBytes,
    clusters,
    media: boot.readUInt8(21),
    isMarkedDirty: (flags & 1) !== 0,
  };
}

/** @returns entry `index` of a piece of the table */
export function fatEntryAt(table: Buffer, index: number, bits: FatGeometry['entryBits']): number {
  if (bits === 32) return table.readUInt32LE(index * 4) & 0x0fffffff;
  if (bits === 16) return table.readUInt16LE(index * 2);
  const at = index + (index >> 1);
  const pair = (table[at] ?? 0) | ((table[at + 1] ?? 0) << 8);
  return index % 2 === 0 ? pair & 0xfff : pair >> 4;
}
