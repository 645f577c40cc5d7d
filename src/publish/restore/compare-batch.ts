import { digestBytes } from '../../base/index.ts';
import { type Extent, mergeExtents } from '../../bytes/index.ts';
import type { ChunkWorkers, LentBuffer, Span } from '../../keep/index.ts';
import {
  type Batch,
  type DataBatch,
  type HoleBatch,
  MAX_BATCH_BYTES,
  type PlacedChunk,
} from './batches.ts';
import { CompareDepth } from './compare-depth.ts';
import { fillMemory } from './fill-memory.ts';
import type { RestoreFeed } from './restore-feed.ts';
import type { RestoreTarget } from './restore-target.ts';

/** Holes are looked at in pieces of this length. */
const HOLE_PIECE_BYTES = MAX_BATCH_BYTES;

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
  readonly blocks: Buffer;
  /** Where {@link blocks} begin on the disk. */
  readonly offsetBytes: number;
  /** What {@link blocks} are a part of. */
  readonly lent: LentBuffer;
}

/** Bytes of a SHA-256. */
const DIGEST_BYTES = 32;

/** Finds out what a target has already, in memory that the workers lend and look at. */
export class TargetComparison {
  readonly #target: RestoreTarget;
  readonly #workers: ChunkWorkers;
  readonly #signal: AbortSignal | undefined;
  readonly #verifies: boolean;
  readonly #zeros = Buffer.alloc(HOLE_PIECE_BYTES);
  readonly #depth = new CompareDepth();

  /** @param setup `verifies`: every byte is looked at, whatever it costs */
  constructor(setup: {
    readonly target: RestoreTarget;
    readonly workers: ChunkWorkers;
    readonly signal: AbortSignal | undefined;
    readonly verifies: boolean;
  }) {
    this.#target = setup.target;
    this.#workers = setup.workers;
    this.#signal = setup.signal;
    this.#verifies = setup.verifies;
  }

  /**
   * Reads the batch from the target and compares the digest of every chunk. Where nearly nothing was
   * equal so far, one chunk speaks for its batch: reading a foreign disk whole costs as much as
   * writing it.
   */
  async compare(batch: Batch): Promise<Difference> {
    if (batch.kind === 'hole') return await this.#compareHole(batch);
    const memory = await this.#memoryFor(batch);
    try {
      const samples = !this.#verifies && this.#depth.next() === 'sample';
      if (samples && (await this.#sampleDiffers(batch, memory))) {
        return { batch, chunks: batch.chunks, zeros: [], memory };
      }
      await this.#target.read(memory.blocks, memory.offsetBytes);
      const chunks = await this.#differing(batch.chunks, memory);
      this.#depth.compared(chunks.length < batch.chunks.length);
      return { batch, chunks, zeros: [], memory };
    } catch (thrown) {
      memory.lent[Symbol.dispose]();
      throw thrown;
    }
  }

  /** The difference to a target that reads as zeros everywhere. */
  async assumeBlank(batch: Batch): Promise<Difference> {
    if (batch.kind === 'hole') return holeDifference(batch, []);
    return { batch, chunks: batch.chunks, zeros: [], memory: await this.#memoryFor(batch) };
  }

  /** Puts the missing chunks into the memory of the batch. */
  async fill(difference: Difference, feed: RestoreFeed): Promise<void> {
    const { chunks, memory } = difference;
    if (memory === undefined || chunks.length === 0) return;
    try {
      const wanted = chunks.map(({ chunk, offsetBytes }) => ({
        chunk,
        startBytes: offsetBytes - memory.offsetBytes,
      }));
      await fillMemory(memory.blocks, wanted, {
        feed,
        workers: this.#workers,
        signal: this.#signal,
      });
    } catch (thrown) {
      this.release(difference);
      throw thrown;
    }
  }

  /** Takes the memory back; the difference must not be used any more. */
  release({ memory }: Difference): void {
    memory?.lent[Symbol.dispose]();
  }

  async #memoryFor(batch: DataBatch): Promise<BatchMemory> {
    const { blockBytes } = this.#target;
    const offsetBytes = batch.offsetBytes - (batch.offsetBytes % blockBytes);
    const end = batch.offsetBytes + batch.lengthBytes;
    const lengthBytes = Math.ceil((end - offsetBytes) / blockBytes) * blockBytes;
    const lent = await this.#workers.lend(lengthBytes);
    return { blocks: lent.bytes, offsetBytes, lent };
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
    return (await this.#differing([placed], memory)).length > 0;
  }

  /** @returns the chunks whose bytes in the memory do not have their name */
  async #differing(
    chunks: readonly PlacedChunk[],
    memory: BatchMemory,
  ): Promise<readonly PlacedChunk[]> {
    const spans = chunks.map(({ chunk, offsetBytes }): Span => {
      return { startBytes: offsetBytes - memory.offsetBytes, lengthBytes: chunk.lengthBytes };
    });
    const digests = await this.#workers.digests(memory.blocks, spans);
    return chunks.filter(({ chunk }, i) => {
      const found = digests.subarray(i * DIGEST_BYTES, (i + 1) * DIGEST_BYTES);
      return !found.equals(digestBytes(chunk.digest));
    });
  }

  async #compareHole(hole: HoleBatch): Promise<Difference> {
    if (this.#target.zeroesCheaply && !this.#verifies) return holeDifference(hole, [hole]);
    const { blockBytes } = this.#target;
    const end = hole.offsetBytes + hole.lengthBytes;
    using lent = await this.#workers.lend(HOLE_PIECE_BYTES + 2 * blockBytes);
    const found: Extent[] = [];
    for (let at = hole.offsetBytes; at < end; ) {
      this.#signal?.throwIfAborted();
      const length = Math.min(HOLE_PIECE_BYTES, end - at);
      const from = at - (at % blockBytes);
      const blocks = Math.ceil((at + length - from) / blockBytes) * blockBytes;
      await this.#target.read(lent.bytes.subarray(0, blocks), from);
      const piece = lent.bytes.subarray(at - from, at - from + length);
      if (!piece.equals(this.#zeros.subarray(0, length))) {
        found.push({ offsetBytes: at, lengthBytes: length });
      }
      at += length;
    }
    return holeDifference(hole, mergeExtents(found));
  }
}

function holeDifference(batch: HoleBatch, zeros: readonly Extent[]): Difference {
  return { batch, chunks: [], zeros, memory: undefined };
}
