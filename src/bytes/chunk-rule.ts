import { crc32 } from 'node:zlib';
import { KIB } from '../base/index.ts';
import { ByteQueue } from './byte-queue.ts';
import type { Extent, FileExtents } from './extent.ts';
import { fileRuns } from './file-runs.ts';
import { MAX_CHUNK_BYTES } from './segment.ts';

const BLOCK_BYTES = 4 * KIB;

/** Runs of tables below this are collected; runs of zeros below this are kept. */
const LONG_RUN_BYTES = 64 * KIB;

/**
 * Pieces of files below this are collected. A file that is alone in its chunks is found again
 * wherever it lies; one in company only in the same company.
 */
const LONG_FILE_BYTES = 12 * KIB;

/**
 * The first cut of a file: what follows it is found again when the beginning changes, and the other
 * way round. Later ones are rarer, since long files have chunks enough (docs/adr/0010).
 */
const FIRST_FILE_CUT_BYTES = 64 * KIB;

const LONG_RUN_BLOCKS = LONG_RUN_BYTES / BLOCK_BYTES;

/**
 * One of so many short runs ends a chunk. With {@link LONG_FILE_BYTES} that gives a Linux root as many
 * chunks as 64 KiB and 4 did, and a rebuilt one 0.4 times the new bytes (docs/adr/0007).
 */
const COLLECT_DIVISOR = 16;

/** With at least 4 blocks: 3 + 13 blocks on average, which is 64 KiB. */
const CONTENT_DIVISOR = 13;
const MIN_CONTENT_BLOCKS = 4;

const ZERO_BLOCK = Buffer.alloc(BLOCK_BYTES);

/** How a disk is cut; it stands in the manifest, where rules of old stand too. */
export type ChunkRule = 'file-extents-3' | 'content-4k-1';

/** One piece of a disk: bytes to keep, or zeros. */
export type Cut =
  | {
      readonly kind: 'chunk';
      readonly offsetBytes: number;
      readonly lengthBytes: number;
      /** A view into what was pushed, or a copy where it crosses two pushes. */
      readonly plain: Buffer;
    }
  | { readonly kind: 'hole'; readonly offsetBytes: number; readonly lengthBytes: number };

/** What a cutter needs to know of a disk. */
export interface ChunkRuleInput {
  readonly sizeBytes: number;
  /** Ascending and merged; everything else is hole. */
  readonly extents: readonly Extent[];
  /** Undefined: cut by content. */
  readonly fileExtents: FileExtents | undefined;
  readonly originBytes: number;
}

/** A piece that the rule has cut out; its bytes are at the front of the queue. */
interface Candidate {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/**
 * A rule at work: yields undefined where it needs more bytes in the queue, and a candidate where it
 * has cut one, which is taken off the queue before it goes on.
 */
type RuleWalk = Generator<Candidate | undefined, void, undefined>;

/**
 * Cuts a disk into chunks and holes, in disk order, as its bytes come in.
 *
 * Push the bytes of all extents, in order, in buffers of any length. The cuts depend on the disk
 * alone and never on those lengths.
 *
 * @see docs/formats/chunk-rule.md
 */
export class ChunkCutter {
  readonly rule: ChunkRule;
  readonly #sizeBytes: number;
  readonly #queue = new ByteQueue();
  readonly #walk: RuleWalk;
  /** Everything before it has been given out; from here on a hole grows, or nothing yet. */
  #holeStartBytes = 0;

  constructor(input: ChunkRuleInput) {
    this.#sizeBytes = input.sizeBytes;
    if (input.fileExtents === undefined) {
      this.rule = 'content-4k-1';
      this.#walk = cutByContent(input, this.#queue);
    } else {
      this.rule = 'file-extents-3';
      this.#walk = cutAtFiles(input.extents, input.fileExtents, input.originBytes, this.#queue);
    }
  }

  /**
   * Takes the next bytes of the extents.
   *
   * @param bytes must not change as long as cuts of it are used, nor before {@link carryInto}
   * @returns the cuts that are certain now
   */
  *push(bytes: Buffer): Generator<Cut, void, undefined> {
    this.#queue.push(bytes);
    yield* this.#advance();
  }

  /**
   * Copies what is not cut yet to the end of `room`: at most 640 KiB. What was pushed may change
   * then. Bytes that are pushed next and lie right behind `room` are cut without a copy.
   */
  carryInto(room: Buffer): void {
    this.#queue.moveToEndOf(room);
  }

  /**
   * Ends the disk.
   *
   * @returns the last cuts: a hole where the disk ends with one
   * @throws Error when the pushed bytes were not those of the extents: a bug of the caller
   */
  *finish(): Generator<Cut, void, undefined> {
    yield* this.#advance();
    if (this.#queue.length > 0 || this.#walk.next().done !== true) {
      throw new Error('the bytes that were pushed are not those of the extents');
    }
    yield* this.#endHole(this.#sizeBytes);
  }

  *#advance(): Generator<Cut, void, undefined> {
    for (;;) {
      const step = this.#walk.next();
      if (step.done === true || step.value === undefined) return;
      yield* this.#withoutZeros(step.value, this.#queue.take(step.value.lengthBytes));
    }
  }

  /** Takes the long runs of zero blocks out of a candidate. */
  *#withoutZeros({ offsetBytes }: Candidate, plain: Buffer): Generator<Cut, void, undefined> {
    let chunkStart = 0;
    let at = 0;
    while (at < plain.byteLength) {
      const zerosEnd = endOfZeros(plain, at);
      const isWhole = at === 0 && zerosEnd === plain.byteLength;
      if (zerosEnd - at >= LONG_RUN_BYTES || isWhole) {
        yield* this.#chunk(offsetBytes + chunkStart, plain.subarray(chunkStart, at));
        chunkStart = zerosEnd;
      }
      at = zerosEnd > at ? zerosEnd : at + BLOCK_BYTES;
    }
    yield* this.#chunk(offsetBytes + chunkStart, plain.subarray(chunkStart));
  }

  *#chunk(offsetBytes: number, plain: Buffer): Generator<Cut, void, undefined> {
    const lengthBytes = plain.byteLength;
    if (lengthBytes === 0) return;
    yield* this.#endHole(offsetBytes);
    yield { kind: 'chunk', offsetBytes, lengthBytes, plain };
    this.#holeStartBytes = offsetBytes + lengthBytes;
  }

  *#endHole(endBytes: number): Generator<Cut, void, undefined> {
    const lengthBytes = endBytes - this.#holeStartBytes;
    if (lengthBytes > 0) yield { kind: 'hole', offsetBytes: this.#holeStartBytes, lengthBytes };
  }
}

/** @returns where the zero blocks that begin at `from` end; `from` when that block is none */
function endOfZeros(plain: Buffer, from: number): number {
  let at = from;
  while (at < plain.byteLength) {
    const end = Math.min(at + BLOCK_BYTES, plain.byteLength);
    if (!isZeroBlock(plain, at, end)) break;
    at = end;
  }
  return at;
}

/** Two bytes tell most blocks that are not zero, for a hundredth of the price of a comparison. */
function isZeroBlock(plain: Buffer, start: number, end: number): boolean {
  if (plain[start] !== 0 || plain[end - 1] !== 0) return false;
  return plain.compare(ZERO_BLOCK, 0, end - start, start, end) === 0;
}

/** Cuts of `file-extents-3`. */
function* cutAtFiles(
  extents: readonly Extent[],
  files: FileExtents,
  originBytes: number,
  queue: ByteQueue,
): RuleWalk {
  const collector = new Collector(queue);
  for (const { extent, runs } of fileRuns(extents, files)) {
    for (const run of runs) {
      if (run.fileOffsetBytes !== undefined) {
        yield* cutFile(run, run.fileOffsetBytes, collector, queue);
      } else if (run.lengthBytes >= LONG_RUN_BYTES) {
        yield* collector.cut(run.offsetBytes);
        yield* cutTable(run, originBytes, queue);
      } else {
        yield* collector.add(run);
      }
    }
    yield* collector.cut(extent.offsetBytes + extent.lengthBytes);
  }
}

/** Short runs one behind the other, at the front of the queue, until they are cut together. */
class Collector {
  readonly #queue: ByteQueue;
  #lengthBytes = 0;

  constructor(queue: ByteQueue) {
    this.#queue = queue;
  }

  get lengthBytes(): number {
    return this.#lengthBytes;
  }

  /** Adds a run, which lies right behind the last one; its first block may make it the end. */
  *add({ offsetBytes, lengthBytes }: Candidate): RuleWalk {
    if (this.#lengthBytes + lengthBytes > MAX_CHUNK_BYTES) yield* this.cut(offsetBytes);
    yield* untilQueued(this.#queue, this.#lengthBytes + lengthBytes);
    const first = this.#queue.peek(this.#lengthBytes, Math.min(BLOCK_BYTES, lengthBytes));
    this.#lengthBytes += lengthBytes;
    if (crc32(first) % COLLECT_DIVISOR === 0) yield* this.cut(offsetBytes + lengthBytes);
  }

  /** Cuts what was collected, all of which lies before `endBytes`. */
  *cut(endBytes: number): RuleWalk {
    const lengthBytes = this.#lengthBytes;
    if (lengthBytes === 0) return;
    yield { offsetBytes: endBytes - lengthBytes, lengthBytes };
    this.#lengthBytes = 0;
  }
}

/** Cuts a run of a file at fixed places of the file, and around its zero blocks. */
function* cutFile(
  run: Candidate,
  fileOffsetBytes: number,
  collector: Collector,
  queue: ByteQueue,
): RuleWalk {
  for (let done = 0; done < run.lengthBytes; ) {
    const at = fileOffsetBytes + done;
    const maxBytes = Math.min(untilFileCut(at), run.lengthBytes - done);
    const queuedBytes = collector.lengthBytes;
    yield* untilQueued(queue, queuedBytes + maxBytes);
    const bytes = queue.peek(queuedBytes, maxBytes);
    const { lengthBytes, isZero } = firstStretch(bytes, untilMultiple(at, BLOCK_BYTES));
    const piece = { offsetBytes: run.offsetBytes + done, lengthBytes };
    if (isZero || lengthBytes >= LONG_FILE_BYTES) {
      yield* collector.cut(piece.offsetBytes);
      yield piece;
    } else {
      yield* collector.add(piece);
    }
    done += lengthBytes;
  }
}

/** @returns how far it is to the next of 64 KiB, 128 KiB and the multiples of 256 KiB */
function untilFileCut(fileOffsetBytes: number): number {
  const isBeginning = fileOffsetBytes < 2 * FIRST_FILE_CUT_BYTES;
  return untilMultiple(fileOffsetBytes, isBeginning ? FIRST_FILE_CUT_BYTES : MAX_CHUNK_BYTES);
}

/** Finds how far zero blocks, or others, go on from the start; the first block may be shorter. */
function firstStretch(
  bytes: Buffer,
  firstBytes: number,
): { readonly lengthBytes: number; readonly isZero: boolean } {
  let end = Math.min(firstBytes, bytes.byteLength);
  const isZero = isZeroBlock(bytes, 0, end);
  while (end < bytes.byteLength) {
    const next = Math.min(end + BLOCK_BYTES, bytes.byteLength);
    if (isZeroBlock(bytes, end, next) !== isZero) break;
    end = next;
  }
  return { lengthBytes: end, isZero };
}

/** Cuts a long run that belongs to no file at multiples from the origin. */
function* cutTable(run: Candidate, originBytes: number, queue: ByteQueue): RuleWalk {
  const first = untilMultiple(run.offsetBytes - originBytes, LONG_RUN_BYTES);
  for (let done = 0; done < run.lengthBytes; ) {
    const lengthBytes = Math.min(done === 0 ? first : LONG_RUN_BYTES, run.lengthBytes - done);
    yield* untilQueued(queue, lengthBytes);
    yield { offsetBytes: run.offsetBytes + done, lengthBytes };
    done += lengthBytes;
  }
}

/** Cuts of `content-4k-1`. */
function* cutByContent({ extents, originBytes }: ChunkRuleInput, queue: ByteQueue): RuleWalk {
  for (const extent of extents) {
    const end = extent.offsetBytes + extent.lengthBytes;
    /** Where the candidate begins, how many bytes and blocks of it are looked at. */
    let start = extent.offsetBytes;
    let bytes = 0;
    let blocks = 0;
    /** How many zero blocks stand at the candidate's end, before a run of them is recognised. */
    let zeroBlocks = 0;
    let isZeroRun = false;
    const cut = function* (lengthBytes: number): RuleWalk {
      if (lengthBytes > 0) yield { offsetBytes: start, lengthBytes };
      start += lengthBytes;
      bytes -= lengthBytes;
    };
    for (let at = start; at < end; ) {
      const blockBytes = Math.min(untilMultiple(at - originBytes, BLOCK_BYTES), end - at);
      yield* untilQueued(queue, bytes + blockBytes);
      const block = queue.peek(bytes, blockBytes);
      const isZero = blockBytes === BLOCK_BYTES && isZeroBlock(block, 0, BLOCK_BYTES);
      if (isZeroRun && !isZero) {
        yield* cut(bytes);
        isZeroRun = false;
        blocks = 0;
      }
      at += blockBytes;
      bytes += blockBytes;
      blocks += 1;
      zeroBlocks = isZero ? zeroBlocks + 1 : 0;
      if (!isZeroRun && zeroBlocks === LONG_RUN_BLOCKS) {
        yield* cut(bytes - LONG_RUN_BYTES);
        isZeroRun = true;
        blocks = LONG_RUN_BLOCKS;
      } else if (
        blocks * BLOCK_BYTES >= MAX_CHUNK_BYTES ||
        (!isZero && blocks >= MIN_CONTENT_BLOCKS && crc32(block) % CONTENT_DIVISOR === 0)
      ) {
        yield* cut(bytes);
        blocks = 0;
        zeroBlocks = 0;
      }
    }
    yield* cut(bytes);
  }
}

/** @returns how far it is to the next multiple of `step`; `offsetBytes` may lie before 0 */
function untilMultiple(offsetBytes: number, step: number): number {
  return step - (((offsetBytes % step) + step) % step);
}

function* untilQueued(queue: ByteQueue, bytes: number): RuleWalk {
  while (queue.length < bytes) yield undefined;
}
