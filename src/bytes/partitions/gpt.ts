import { crc32 } from 'node:zlib';
import { isFailure } from '../../base/index.ts';
import { type MetadataReader, malformed } from '../filesystems/metadata-reader.ts';
import type { Partition, PartitionTable } from './partition.ts';

const SIGNATURE = 'EFI PART';
const SECTOR_SIZES = [512, 4096];
/** UEFI reserves 16 KiB; a table of a mebibyte has 8192 entries. */
const MAX_TABLE_BYTES = 1024 * 1024;

/**
 * Reads a GUID partition table: the first header, or the one at the end when that is damaged.
 *
 * @returns undefined when neither header is there
 * @throws IngotError `filesystem-malformed` when a header is there and none can be believed
 * @see UEFI specification, section 5.3
 */
export async function readGpt(disk: MetadataReader): Promise<PartitionTable | undefined> {
  let reason: string | undefined;
  for (const sectorBytes of SECTOR_SIZES) {
    const lastSector = Math.floor(disk.sizeBytes / sectorBytes) - 1;
    for (const sector of [1, lastSector]) {
      if (sector < 1 || sector > lastSector) continue;
      const header = await disk.read(sector * sectorBytes, sectorBytes, 'a GPT header');
      if (header.toString('latin1', 0, 8) !== SIGNATURE) continue;
      try {
        const partitions = await parseTable(disk, header, { sectorBytes, sector });
        const isCopy = sector !== 1;
        const notice = `gpt: the first header is damaged, its copy is used`;
        return { partitions, notices: isCopy ? [notice] : [] };
      } catch (thrown) {
        if (!isFailure(thrown, 'filesystem-malformed')) throw thrown;
        reason ??= thrown.message;
      }
    }
  }
  if (reason !== undefined) throw malformed(`gpt: ${reason}`);
  return undefined;
}

async function parseTable(
  disk: MetadataReader,
  header: Buffer,
  place: { readonly sectorBytes: number; readonly sector: number },
): Promise<Partition[]> {
  const headerBytes = header.readUInt32LE(12);
  if (headerBytes < 92 || headerBytes > header.length) {
    throw malformed(`its header has ${headerBytes} bytes`);
  }
  const checked = Buffer.from(header.subarray(0, headerBytes));
  checked.writeUInt32LE(0, 16);
  if (crc32(checked) !== header.readUInt32LE(16)) throw malformed('its header has a wrong CRC');
  if (Number(header.readBigUInt64LE(24)) !== place.sector) {
    throw malformed(`its header says that it is sector ${header.readBigUInt64LE(24)}`);
  }
  const count = header.readUInt32LE(80);
  const entryBytes = header.readUInt32LE(84);
  if (entryBytes < 128 || entryBytes % 8 !== 0 || count * entryBytes > MAX_TABLE_BYTES) {
    throw malformed(`its table has ${count} entries of ${entryBytes} bytes`);
  }
  const at = Number(header.readBigUInt64LE(72)) * place.sectorBytes;
  const table = await disk.read(at, count * entryBytes, 'the GPT');
  if (crc32(table) !== header.readUInt32LE(88)) throw malformed('its table has a wrong CRC');
  const partitions: Partition[] = [];
  for (let i = 0; i < count; i++) {
    const entry = table.subarray(i * entryBytes, (i + 1) * entryBytes);
    if (entry.subarray(0, 16).every((byte) => byte === 0)) continue;
    const first = Number(entry.readBigUInt64LE(32));
    const last = Number(entry.readBigUInt64LE(40));
    const offsetBytes = first * place.sectorBytes;
    const sizeBytes = (last - first + 1) * place.sectorBytes;
    if (first < 1 || last < first || offsetBytes + sizeBytes > disk.sizeBytes) {
      throw malformed(`partition ${i + 1} has sectors ${first} to ${last}`);
    }
    partitions.push({ number: i + 1, offsetBytes, sizeBytes });
  }
  return partitions;
}
