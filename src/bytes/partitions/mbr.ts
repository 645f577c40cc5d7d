import { type MetadataReader, malformed } from '../filesystems/metadata-reader.ts';
import type { Partition, PartitionTable } from './partition.ts';

/** An MBR is one sector, whatever the disk's sectors are. */
export const MBR_BYTES = 512;
const EXTENDED_TYPES = [0x05, 0x0f, 0x85];
const PROTECTIVE_TYPE = 0xee;
/** The kernel stops at 255 partitions of a disk. */
const MAX_LOGICAL = 251;

/** A primary partition, or the extended one. */
export interface MbrEntry {
  readonly type: number;
  readonly first: number;
  readonly sectors: number;
}

/** Tells whether the entries only guard a GPT (a hybrid MBR has others as well). */
export function isGptGuard(entries: readonly MbrEntry[]): boolean {
  return entries.some((entry) => entry.type === PROTECTIVE_TYPE);
}

/**
 * Reads the partitions of an MBR and the chain of its logical ones.
 *
 * @param sectorBytes what the disk counts in: its logical block size
 * @returns undefined when there is no partition
 * @throws IngotError `filesystem-malformed` when the table cannot be believed
 */
export async function readMbr(
  disk: MetadataReader,
  entries: readonly MbrEntry[],
  sectorBytes: number,
): Promise<PartitionTable | undefined> {
  const partitions: Partition[] = [];
  let extended: MbrEntry | undefined;
  for (const [i, entry] of entries.entries()) {
    if (entry.type === 0 || entry.sectors === 0) continue;
    if (EXTENDED_TYPES.includes(entry.type)) {
      if (extended !== undefined) throw malformed('mbr: two extended partitions');
      extended = entry;
      continue;
    }
    partitions.push(toPartition(disk, i + 1, entry, sectorBytes));
  }
  if (extended !== undefined) partitions.push(...(await readLogical(disk, extended, sectorBytes)));
  return partitions.length === 0 ? undefined : { partitions, notices: [] };
}

/** Parses the four entries; undefined when this is a boot sector of something else. */
export function parseMbr(sector: Buffer): MbrEntry[] | undefined {
  if (sector.length < MBR_BYTES || sector.readUInt16LE(510) !== 0xaa55) return undefined;
  const entries: MbrEntry[] = [];
  for (let at = 446; at < 510; at += 16) {
    if ((sector.readUInt8(at) & 0x7f) !== 0) return undefined;
    const entry = {
      type: sector.readUInt8(at + 4),
      first: sector.readUInt32LE(at + 8),
      sectors: sector.readUInt32LE(at + 12),
    };
    if (entry.type !== 0 && entry.sectors > 0 && entry.first === 0) return undefined;
    entries.push(entry);
  }
  return entries;
}

/**
 * Follows the chain of extended boot records: in each, the first entry is a logical partition
 * (counted from that record), the second the next record (counted from the extended partition).
 */
async function readLogical(
  disk: MetadataReader,
  extended: MbrEntry,
  sectorBytes: number,
): Promise<Partition[]> {
  const partitions: Partition[] = [];
  const seen = new Set<number>();
  for (let record = extended.first; ; ) {
    if (seen.has(record)) throw malformed(`mbr: the record at sector ${record} is in a loop`);
    if (seen.size > MAX_LOGICAL)
      throw malformed(`mbr: more than ${MAX_LOGICAL} logical partitions`);
    seen.add(record);
    const sector = await disk.read(record * sectorBytes, MBR_BYTES, 'an extended boot record');
    // An extended partition without logical ones has no record at all.
    const entries = sector.readUInt16LE(510) === 0xaa55 ? readEntries(sector) : [];
    const logical = entries.find(({ type, sectors }) => isData(type) && sectors > 0);
    if (logical !== undefined) {
      const number = 5 + partitions.length;
      const place = { first: record + logical.first, sectors: logical.sectors };
      partitions.push(toPartition(disk, number, place, sectorBytes));
    }
    const next = entries.find(({ type, sectors }) => EXTENDED_TYPES.includes(type) && sectors > 0);
    if (next === undefined) return partitions;
    record = extended.first + next.first;
  }
}

const isData = (type: number): boolean => type !== 0 && !EXTENDED_TYPES.includes(type);

function readEntries(sector: Buffer): MbrEntry[] {
  return [446, 462].map((at) => ({
    type: sector.readUInt8(at + 4),
    first: sector.readUInt32LE(at + 8),
    sectors: sector.readUInt32LE(at + 12),
  }));
}

function toPartition(
  disk: MetadataReader,
  number: number,
  { first, sectors }: { readonly first: number; readonly sectors: number },
  sectorBytes: number,
): Partition {
  const offsetBytes = first * sectorBytes;
  const sizeBytes = sectors * sectorBytes;
  if (first === 0 || offsetBytes + sizeBytes > disk.sizeBytes) {
    throw malformed(`mbr: partition ${number} has ${sectors} sectors from ${first} on`);
  }
  return { number, offsetBytes, sizeBytes };
}
