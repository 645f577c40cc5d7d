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
 * @returns undefined when there is none
 * @throws IngotError `filesystem-malformed` when there is one that cannot be believed
 * @see docs/formats/disk-maps.md
 */
export async function readPartitionTable(
  disk: MetadataReader,
): Promise<PartitionTable | undefined> {
  if (disk.sizeBytes < MBR_BYTES) return undefined;
  const entries = parseMbr(await disk.read(0, MBR_BYTES, 'the MBR'));
  if (entries === undefined) return undefined;
  if (!isGptGuard(entries)) return await readMbr(disk, entries);
  const gpt = await readGpt(disk);
  if (gpt === undefined) throw malformed('gpt: an MBR guards it, but no header is there');
  return gpt;
}
