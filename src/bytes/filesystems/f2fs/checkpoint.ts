import { isFailure } from '../../../base/index.ts';
import { type MetadataReader, malformed } from '../metadata-reader.ts';
import { BLOCK_BYTES, type F2fsSuperblock, f2fsCrc, SEGMENT_BLOCKS } from './superblock.ts';

const FLAGS = {
  unmounted: 0x1,
  compactSummaries: 0x4,
  errors: 0x8,
  needsCheck: 0x10,
  fastBoot: 0x20,
  largeNatBitmap: 0x400,
  disabled: 0x1000,
  resizing: 0x4000,
} as const;
const BITMAP_AT = 192;
const SUMMARY_ENTRIES_BYTES = 3584;
const JOURNAL_BYTES = 507;
/** Kinds of open segments: three of data, three of nodes. The third holds the journal. */
const COLD_DATA = 2;

/** The checkpoint that a mount would start from. */
export interface F2fsCheckpoint {
  readonly version: bigint;
  /** At least as many blocks as the segment table marks: space may be reserved. */
  readonly validBlocks: number;
  readonly freeSegments: number;
  /** Segments that are being filled; not free even where nothing in them is valid. */
  readonly openSegments: ReadonlySet<number>;
  readonly isUnmounted: boolean;
  /** Why its counts may not be true, or undefined. */
  readonly doubt: string | undefined;
  /** Which copy of each block of the segment table counts; the highest bit is the first. */
  readonly sitBitmap: Buffer;
  /** Entries of the segment table that are newer than the table. */
  readonly journal: Buffer;
}

/**
 * Reads the two checkpoint packs and gives the newer one that is whole: its first and last block
 * have the right checksum and the same version.
 *
 * @throws IngotError `filesystem-malformed` when there is none
 */
export async function readCheckpoint(
  disk: MetadataReader,
  sb: F2fsSuperblock,
): Promise<F2fsCheckpoint> {
  let newest: F2fsCheckpoint | undefined;
  for (const start of [sb.checkpointBlock, sb.checkpointBlock + SEGMENT_BLOCKS]) {
    try {
      const pack = await readPack(disk, sb, start);
      if (newest === undefined || pack.version > newest.version) newest = pack;
    } catch (thrown) {
      if (!isFailure(thrown, 'filesystem-malformed')) throw thrown;
    }
  }
  if (newest === undefined) throw malformed('it has no whole checkpoint');
  return newest;
}

async function readPack(
  disk: MetadataReader,
  sb: F2fsSuperblock,
  start: number,
): Promise<F2fsCheckpoint> {
  const read = (block: number, blocks = 1): Promise<Buffer> =>
    disk.read(block * BLOCK_BYTES, blocks * BLOCK_BYTES, 'a checkpoint');
  const first = await read(start);
  checkBlock(first);
  const blocks = first.readUInt32LE(136);
  const startOfSummaries = first.readUInt32LE(140);
  if (blocks < 2 || blocks > SEGMENT_BLOCKS || startOfSummaries >= blocks) {
    throw malformed(`a checkpoint has ${blocks} blocks`);
  }
  const last = await read(start + blocks - 1);
  checkBlock(last);
  const version = first.readBigUInt64LE(0);
  if (last.readBigUInt64LE(0) !== version) throw malformed('a checkpoint is torn');
  const flags = first.readUInt32LE(132);
  const payload = sb.payloadBlocks > 0 ? await read(start + 1, sb.payloadBlocks) : undefined;
  const hasNodeSummaries = (flags & (FLAGS.unmounted | FLAGS.fastBoot)) !== 0;
  const isCompact = (flags & FLAGS.compactSummaries) !== 0;
  const openSegments = hasNodeSummaries ? 6 : 3;
  const summaryBlock = isCompact ? startOfSummaries : blocks - (openSegments + 1) + COLD_DATA;
  if (summaryBlock < 1 || summaryBlock >= blocks) throw malformed('a checkpoint has no summaries');
  const summary = await read(start + summaryBlock);
  const journalAt = isCompact ? JOURNAL_BYTES : SUMMARY_ENTRIES_BYTES;
  return {
    version,
    validBlocks: Number(first.readBigUInt64LE(16)),
    freeSegments: first.readUInt32LE(32),
    openSegments: openSegmentsOf(first),
    isUnmounted: (flags & FLAGS.unmounted) !== 0,
    doubt: doubtOf(flags),
    sitBitmap: sitBitmapOf(first, payload, flags),
    journal: summary.subarray(journalAt, journalAt + JOURNAL_BYTES),
  };
}

/** Three of nodes and three of data, each list with room for eight. */
function openSegmentsOf(first: Buffer): Set<number> {
  return new Set([36, 40, 44, 84, 88, 92].map((at) => first.readUInt32LE(at)));
}

function doubtOf(flags: number): string | undefined {
  if ((flags & (FLAGS.errors | FLAGS.needsCheck)) !== 0) return 'it is marked as having errors';
  if ((flags & FLAGS.disabled) !== 0) return 'its checkpoints are disabled';
  if ((flags & FLAGS.resizing) !== 0) return 'it is being resized';
  return undefined;
}

function checkBlock(block: Buffer): void {
  const at = block.readUInt32LE(164);
  if (at < BITMAP_AT || at > BLOCK_BYTES - 4 || at % 4 !== 0) {
    throw malformed(`a checkpoint has its checksum at ${at}`);
  }
  // A checksum before the end leaves itself out and goes on behind.
  if (f2fsCrc(block.subarray(0, at), block.subarray(at + 4)) !== block.readUInt32LE(at)) {
    throw malformed('the checksum of a checkpoint is wrong');
  }
}

function sitBitmapOf(first: Buffer, payload: Buffer | undefined, flags: number): Buffer {
  const length = first.readUInt32LE(156);
  const natLength = first.readUInt32LE(160);
  const isLarge = (flags & FLAGS.largeNatBitmap) !== 0;
  const source = isLarge || payload === undefined ? first : payload;
  const start = isLarge ? BITMAP_AT + 4 + natLength : source === first ? BITMAP_AT : 0;
  const bytes = isLarge && payload !== undefined ? Buffer.concat([first, payload]) : source;
  if (start + length > bytes.length) throw malformed(`a checkpoint's bitmap has ${length} bytes`);
  return Buffer.from(bytes.subarray(start, start + length));
}
