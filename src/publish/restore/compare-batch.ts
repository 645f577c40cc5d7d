import { MIB } from '../../base/index.ts';
import { type Extent, mergeExtents } from '../../bytes/index.ts';
import type { Batch, DataBatch, HoleBatch, PlacedChunk } from './batches.ts';
import type { PlainChunks } from './plain-chunks.ts';
import { MAX_FEED_READ_BYTES } from './restore-feed.ts';
import type { RestoreTarget } from './restore-target.ts';
import { threadedDigest } from './threaded-digest.ts';

/** Holes are looked at in pieces of this length. */
const HOLE_PIECE_BYTES = MIB;

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
  readonly #readsHoles: boolean;
  readonly #spare: Buffer<ArrayBuffer>[] = [];
  readonly #zeros = Buffer.alloc(HOLE_PIECE_BYTES);

  /** @param options `readsHoles`: look at every hole, also where zeroing costs nothing */
  constructor(
    target: RestoreTarget,
    signal: AbortSignal | undefined,
    { readsHoles = false }: { readonly readsHoles?: boolean } = {},
  ) {
    this.#target = target;
    this.#signal = signal;
    this.#readsHoles = readsHoles;
  }

  /** Reads the batch from the target and compares the digest of every chunk. */
  async compare(batch: Batch): Promise<Difference> {
    if (batch.kind === 'hole') return await this.#compareHole(batch);
    const memory = this.#memoryFor(batch);
    const { blocks, offsetBytes } = memory;
    try {
      await this.#target.read(blocks, offsetBytes);
      const isMissing = await Promise.all(
        batch.chunks.map(
          async ({ chunk, offsetBytes: at }) =>
            (await threadedDigest(
              blocks.subarray(at - offsetBytes, at - offsetBytes + chunk.lengthBytes),
            )) !== chunk.digest,
        ),
      );
      return {
        batch,
        chunks: batch.chunks.filter((_, index) => isMissing[index] === true),
        zeros: [],
        memory,
      };
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
      const plain = await source.read(
        chunks.map(({ chunk }) => chunk),
        this.#signal,
      );
      for (const [index, { offsetBytes }] of chunks.entries()) {
        plain[index]?.copy(memory.blocks, offsetBytes - memory.offsetBytes);
      }
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
    const whole = this.#spare.pop() ?? this.#target.allocate(MAX_FEED_READ_BYTES + 2 * blockBytes);
    return { blocks: whole.subarray(0, lengthBytes), offsetBytes, whole };
  }

  async #compareHole(hole: HoleBatch): Promise<Difference> {
    if (this.#target.zeroesCheaply && !this.#readsHoles) return holeDifference(hole, [hole]);
    const { blockBytes } = this.#target;
    const end = hole.offsetBytes + hole.lengthBytes;
    const buffer = this.#target.allocate(HOLE_PIECE_BYTES + 2 * blockBytes);
    const found: Extent[] = [];
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
    return holeDifference(hole, mergeExtents(found));
  }
}

function holeDifference(batch: HoleBatch, zeros: readonly Extent[]): Difference {
  return { batch, chunks: [], zeros, memory: undefined };
}
