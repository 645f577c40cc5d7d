import { type MetadataReader, malformed } from '../filesystems/metadata-reader.ts';
import { readGpt } from './gpt.ts';
import { isGptGuard, MBR_BYTES, parseMbr, readMbr } from './mbr.ts';
import type { PartitionTable } from './partition.ts';

/**
 * Reads the partition table of a disk.
 *
 * As in the kernel, a GPT counts only where an MBR guards it: an old one whose first sector was
 * written anew means nothing.
 *
 * @param sectorBytes what an MBR counts in; a GPT tells by itself
 * @returns undefined when there is none
 * @throws IngotError `filesystem-malformed` when there is one that cannot be believed
 * @see docs/formats/disk-maps.md
 */
export async function readPartitionTable(
  disk: MetadataReader,
  sectorBytes = 512,
): Promise<PartitionTable | undefined> {
  if (disk.sizeBytes < MBR_BYTES) return undefined;
  const entries = parseMbr(await disk.read(0, MBR_BYTES, 'the MBR'));
  if (entries === undefined) return undefined;
  const hasGpt = isGptGuard(entries);
  const table = hasGpt ? await readGpt(disk) : await readMbr(disk, entries, sectorBytes);
  if (hasGpt && table === undefined) {
    throw malformed('gpt: an MBR guards it, but no header is there');
  }
  if (table !== undefined) checkOverlaps(table);
  return table;
}

/** Thousands of partitions at one place would be mapped one by one; and who owns what is unclear. */
function checkOverlaps({ partitions }: PartitionTable): void {
  const sorted = partitions.toSorted((a, b) => a.offsetBytes - b.offsetBytes);
  for (const [i, partition] of sorted.entries()) {
    const next = sorted[i + 1];
    if (next !== undefined && partition.offsetBytes + partition.sizeBytes > next.offsetBytes) {
      throw malformed(`partitions ${partition.number} and ${next.number} overlap`);
    }
  }
}
