import { digestOf } from '../../base/index.ts';
import { type Extent, mergeExtents } from '../../bytes/index.ts';
import type { Batch, DataBatch, HoleBatch, PlacedChunk } from './batches.ts';
import { CompareDepth } from './compare-depth.ts';
import type { PlainChunks } from './plain-chunks.ts';
import { MAX_FEED_READ_BYTES } from './restore-feed.ts';
import type { RestoreTarget } from './restore-target.ts';

/** Holes are looked at in pieces of this length. */
const HOLE_PIECE_BYTES = MAX_FEED_READ_BYTES;

/** A batch, and what of it the target does not have. */
export interface Difference {
  readonly batch: Batch;
  /** Chunks that the target lacks, in disk order. */
  readonly chunks: readonly PlacedChunk[];
  /** Ranges of a hole that do not read as zeros (or may not). */
  readonly zeros: readonly Extent[];
  /** The bytes of a data batch; undefined for holes. */
  readonly memory: BatchMemory | undefined;
}

/** The bytes of a data batch, widened to whole blocks of the target. */
interface BatchMemory {
  readonly blocks: Buffer<ArrayBuffer>;
  /** Where {@link blocks} begin on the disk. */
  readonly offsetBytes: number;
  /** What {@link blocks} are a part of. */
  readonly whole: Buffer<ArrayBuffer>;
}

/** Finds out what a target has already, with a few buffers that are used again and again. */
export class TargetComparison {
  readonly #target: RestoreTarget;
  readonly #signal: AbortSignal | undefined;
  readonly #verifies: boolean;
  readonly #spare: Buffer<ArrayBuffer>[] = [];
  readonly #zeros = Buffer.alloc(HOLE_PIECE_BYTES);
  readonly #depth = new CompareDepth();

  /** @param options `verifies`: every byte is looked at, whatever it costs */
  constructor(
    target: RestoreTarget,
    signal: AbortSignal | undefined,
    { verifies = false }: { readonly verifies?: boolean } = {},
  ) {
    this.#target = target;
    this.#signal = signal;
    this.#verifies = verifies;
  }

  /**
   * Reads the batch from the target and compares the digest of every chunk. Where nearly nothing was
   * equal so far, one chunk speaks for its batch: reading a foreign disk whole costs as much as
   * writing it.
   */
  async compare(batch: Batch): Promise<Difference> {
    if (batch.kind === 'hole') return await this.#compareHole(batch);
    const memory = this.#memoryFor(batch);
    try {
      const samples = !this.#verifies && this.#depth.next() === 'sample';
      if (samples && (await this.#sampleDiffers(batch, memory))) {
        return { batch, chunks: batch.chunks, zeros: [], memory };
      }
      await this.#target.read(memory.blocks, memory.offsetBytes);
      const chunks = batch.chunks.filter((chunk) => differs(chunk, memory));
      this.#depth.compared(chunks.length < batch.chunks.length);
      return { batch, chunks, zeros: [], memory };
    } catch (thrown) {
      this.#spare.push(memory.whole);
      throw thrown;
    }
  }

  /** The difference to a target that reads as zeros everywhere. */
  assumeBlank(batch: Batch): Difference {
    if (batch.kind === 'hole') return holeDifference(batch, []);
    return { batch, chunks: batch.chunks, zeros: [], memory: this.#memoryFor(batch) };
  }

  /** Puts the missing chunks into the memory of the batch. */
  async fill({ chunks, memory }: Difference, source: PlainChunks): Promise<void> {
    if (memory === undefined || chunks.length === 0) return;
    try {
      const wanted = chunks.map((placed) => ({
        chunk: placed.chunk,
        room: roomOf(placed, memory),
      }));
      await source.readInto(wanted, this.#signal);
    } catch (thrown) {
      this.#spare.push(memory.whole);
      throw thrown;
    }
  }

  /** Takes the memory back; the difference must not be used any more. */
  release({ memory }: Difference): void {
    if (memory !== undefined) this.#spare.push(memory.whole);
  }

  #memoryFor(batch: DataBatch): BatchMemory {
    const { blockBytes } = this.#target;
    const offsetBytes = batch.offsetBytes - (batch.offsetBytes % blockBytes);
    const end = batch.offsetBytes + batch.lengthBytes;
    const lengthBytes = Math.ceil((end - offsetBytes) / blockBytes) * blockBytes;
    const whole = this.#takeMemory();
    return { blocks: whole.subarray(0, lengthBytes), offsetBytes, whole };
  }

  /** Reads one chunk in the middle of a batch. */
  async #sampleDiffers(batch: DataBatch, memory: BatchMemory): Promise<boolean> {
    const placed = batch.chunks[batch.chunks.length >> 1];
    if (placed === undefined) return false;
    const { blockBytes } = this.#target;
    const start = placed.offsetBytes - memory.offsetBytes;
    const from = start - (start % blockBytes);
    const to = Math.ceil((start + placed.chunk.lengthBytes) / blockBytes) * blockBytes;
    await this.#target.read(memory.blocks.subarray(from, to), memory.offsetBytes + from);
    return differs(placed, memory);
  }

  async #compareHole(hole: HoleBatch): Promise<Difference> {
    if (this.#target.zeroesCheaply && !this.#verifies) return holeDifference(hole, [hole]);
    const { blockBytes } = this.#target;
    const end = hole.offsetBytes + hole.lengthBytes;
    const buffer = this.#takeMemory();
    const found: Extent[] = [];
    try {
      for (let at = hole.offsetBytes; at < end; ) {
        this.#signal?.throwIfAborted();
        const length = Math.min(HOLE_PIECE_BYTES, end - at);
        const from = at - (at % blockBytes);
        const blocks = Math.ceil((at + length - from) / blockBytes) * blockBytes;
        await this.#target.read(buffer.subarray(0, blocks), from);
        const piece = buffer.subarray(at - from, at - from + length);
        if (!piece.equals(this.#zeros.subarray(0, length))) {
          found.push({ offsetBytes: at, lengthBytes: length });
        }
        at += length;
      }
    } finally {
      this.#spare.push(buffer);
    }
    return holeDifference(hole, mergeExtents(found));
  }

  #takeMemory(): Buffer<ArrayBuffer> {
    const { blockBytes } = this.#target;
    return this.#spare.pop() ?? this.#target.allocate(MAX_FEED_READ_BYTES + 2 * blockBytes);
  }
}

function holeDifference(batch: HoleBatch, zeros: readonly Extent[]): Difference {
  return { batch, chunks: [], zeros, memory: undefined };
}

/** The part of a batch's memory that is a chunk's. */
function roomOf({ chunk, offsetBytes }: PlacedChunk, memory: BatchMemory): Buffer<ArrayBuffer> {
  const start = offsetBytes - memory.offsetBytes;
  return memory.blocks.subarray(start, start + chunk.lengthBytes);
}

function differs(placed: PlacedChunk, memory: BatchMemory): boolean {
  return digestOf(roomOf(placed, memory)) !== placed.chunk.digest;
}
