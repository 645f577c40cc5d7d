import { isFailure } from '../../../base/index.ts';
import { type DiskState, type FilesystemMap, wholeMap } from '../filesystem-map.ts';
import { type MetadataReader, malformed } from '../metadata-reader.ts';
import { RunList } from '../run-list.ts';
import { type F2fsCheckpoint, readCheckpoint } from './checkpoint.ts';
import {
  BLOCK_BYTES,
  type F2fsSuperblock,
  parseF2fsSuperblock,
  SEGMENT_BLOCKS,
} from './superblock.ts';

const ENTRY_BYTES = 74;
const ENTRIES_PER_BLOCK = 55;
const JOURNAL_ENTRY_BYTES = 78;
const MAX_JOURNAL_ENTRIES = 6;

/**
 * Maps an f2fs filesystem: the blocks that its segment table marks as valid, and all of the areas
 * before the main one.
 *
 * @see docs/formats/disk-maps.md
 */
export async function readF2fsMap(disk: MetadataReader, state: DiskState): Promise<FilesystemMap> {
  try {
    const allocated = await readBelievable(disk, state);
    return { filesystem: 'f2fs', allocated, fileExtents: undefined, notices: [] };
  } catch (thrown) {
    if (!isFailure(thrown, 'filesystem-malformed')) throw thrown;
    return wholeMap('f2fs', disk.sizeBytes, [`f2fs: ${thrown.message}: everything is copied`]);
  }
}

async function readBelievable(disk: MetadataReader, state: DiskState): Promise<RunList> {
  const sb = parseF2fsSuperblock(await disk.read(1024, 3072, 'the superblock'), disk.sizeBytes);
  const checkpoint = await readCheckpoint(disk, sb);
  if (checkpoint.doubt !== undefined) throw malformed(checkpoint.doubt);
  // What was synced after the last checkpoint is valid only for a roll-forward.
  if (!checkpoint.isUnmounted && state === 'at-rest') {
    throw malformed('it was not unmounted cleanly');
  }
  const journal = readJournal(checkpoint.journal);
  const allocated = new RunList('join-gaps');
  allocated.add(0, sb.mainBlock * BLOCK_BYTES);
  let valid = 0;
  let empty = 0;
  for (let first = 0; first < sb.mainSegments; first += ENTRIES_PER_BLOCK) {
    const table = await readTableBlock(disk, sb, checkpoint, first / ENTRIES_PER_BLOCK);
    for (let i = 0; i < Math.min(ENTRIES_PER_BLOCK, sb.mainSegments - first); i++) {
      const entry =
        journal.get(first + i) ?? table.subarray(i * ENTRY_BYTES, (i + 1) * ENTRY_BYTES);
      const blocks = addSegment(sb, first + i, entry, allocated);
      valid += blocks;
      if (blocks === 0 && !checkpoint.openSegments.has(first + i)) empty += 1;
    }
  }
  checkCounts(checkpoint, { valid, empty }, state);
  const mainEnd = sb.mainBlock + sb.mainSegments * SEGMENT_BLOCKS;
  allocated.add(mainEnd * BLOCK_BYTES, disk.sizeBytes);
  return allocated;
}

/** The table has no checksums: a part of it that reads as zeros shows only here. */
function checkCounts(
  { validBlocks, freeSegments }: F2fsCheckpoint,
  { valid, empty }: { readonly valid: number; readonly empty: number },
  state: DiskState,
): void {
  if (state === 'live') return;
  if (valid > validBlocks) throw malformed(`it has ${valid} valid blocks, not ${validBlocks}`);
  // Mounted, two more segments may be open (pinned files, age-based collection).
  const mayBeOpen = state === 'frozen' ? 2 : 0;
  if (empty < freeSegments || empty > freeSegments + mayBeOpen) {
    throw malformed(`it has ${empty} free segments, not ${freeSegments}`);
  }
}

/** f2fs counts bits from the highest of each byte. */
const hasBit = (bitmap: Buffer, bit: number): boolean =>
  ((bitmap[bit >> 3] ?? 0) & (0x80 >> (bit & 7))) !== 0;

async function readTableBlock(
  disk: MetadataReader,
  sb: F2fsSuperblock,
  checkpoint: F2fsCheckpoint,
  index: number,
): Promise<Buffer> {
  if (index >= sb.sitBlocks || index >= checkpoint.sitBitmap.length * 8) {
    throw malformed('its segment table is too short');
  }
  const copy = hasBit(checkpoint.sitBitmap, index) ? sb.sitBlocks : 0;
  return await disk.read(
    (sb.sitBlock + copy + index) * BLOCK_BYTES,
    BLOCK_BYTES,
    'a segment table',
  );
}

function readJournal(bytes: Buffer): ReadonlyMap<number, Buffer> {
  const count = bytes.readUInt16LE(0);
  if (count > MAX_JOURNAL_ENTRIES) throw malformed(`its journal has ${count} entries`);
  const entries = new Map<number, Buffer>();
  for (let i = 0; i < count; i++) {
    const at = 2 + i * JOURNAL_ENTRY_BYTES;
    entries.set(bytes.readUInt32LE(at), bytes.subarray(at + 4, at + JOURNAL_ENTRY_BYTES));
  }
  return entries;
}

/** Adds the valid blocks of a segment: a count of 10 bits, then a bitmap of 64 bytes. */
function addSegment(
  sb: F2fsSuperblock,
  segment: number,
  entry: Buffer,
  allocated: RunList,
): number {
  const bitmap = entry.subarray(2, 66);
  let valid = 0;
  for (let block = 0; block < SEGMENT_BLOCKS; block++) {
    if (!hasBit(bitmap, block)) continue;
    const at = (sb.mainBlock + segment * SEGMENT_BLOCKS + block) * BLOCK_BYTES;
    allocated.add(at, at + BLOCK_BYTES);
    valid += 1;
  }
  const expected = entry.readUInt16LE(0) & 0x3ff;
  if (valid !== expected) {
    throw malformed(`segment ${segment} has ${valid} valid blocks, not ${expected}`);
  }
  return valid;
}
