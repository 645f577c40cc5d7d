import { type Extent, mergeExtents } from '../../bytes/index.ts';
import type { Difference } from './compare-batch.ts';
import type { RestoreTarget } from './restore-target.ts';

/**
 * Writes differences in whole blocks of the target, several at once. Call it in disk order: two
 * batches may share a block, and then the second waits to see what the first wrote there.
 */
export class BatchWriter {
  readonly #target: RestoreTarget;
  readonly #running = new Set<Promise<void>>();
  /** Settles when a batch that may share a block is written: those behind it wait. */
  #turn: Promise<void> = Promise.resolve();
  #writtenBytes = 0;
  #zeroedBytes = 0;

  constructor(target: RestoreTarget) {
    this.#target = target;
  }

  get writtenBytes(): number {
    return this.#writtenBytes;
  }

  get zeroedBytes(): number {
    return this.#zeroedBytes;
  }

  /** Writes what the target lacks of a batch; neighbours go out together. */
  async write(difference: Difference): Promise<void> {
    const before = this.#turn;
    const earlier = [...this.#running];
    const isAlone = this.#sharesBlocks(difference);
    const writing = (async () => {
      await before;
      if (isAlone) await Promise.allSettled(earlier);
      await this.#write(difference);
    })();
    this.#running.add(writing);
    if (isAlone) this.#turn = writing.catch(() => undefined);
    try {
      await writing;
    } finally {
      this.#running.delete(writing);
    }
  }

  #sharesBlocks({ batch }: Difference): boolean {
    const { offsetBytes, lengthBytes } = batch;
    return this.#floor(offsetBytes) !== offsetBytes || this.#floor(lengthBytes) !== lengthBytes;
  }

  async #write(difference: Difference): Promise<void> {
    const { memory } = difference;
    for (const zero of difference.zeros) await this.#zero(zero);
    if (memory === undefined) return;
    const extents = difference.chunks.map(({ chunk, offsetBytes }) => ({
      offsetBytes,
      lengthBytes: chunk.lengthBytes,
    }));
    for (const { offsetBytes, lengthBytes } of mergeExtents(extents)) {
      const end = offsetBytes + lengthBytes;
      const from = this.#floor(offsetBytes);
      const to = this.#floor(end + this.#target.blockBytes - 1);
      const blocks = memory.blocks.subarray(from - memory.offsetBytes, to - memory.offsetBytes);
      // What lies beside the extent in its first and last block is somebody else's.
      if (from < offsetBytes) {
        (await this.#readBlock(from)).copy(blocks, 0, 0, offsetBytes - from);
      }
      if (end < to) {
        const last = this.#floor(end);
        (await this.#readBlock(last)).copy(blocks, end - from, end - last);
      }
      await this.#target.write(blocks, from);
      this.#writtenBytes += lengthBytes;
    }
  }

  async #zero({ offsetBytes, lengthBytes }: Extent): Promise<void> {
    const end = offsetBytes + lengthBytes;
    const from = this.#floor(offsetBytes + this.#target.blockBytes - 1);
    const to = this.#floor(end);
    if (from > to) {
      await this.#zeroInBlock(offsetBytes, end);
    } else {
      if (offsetBytes < from) await this.#zeroInBlock(offsetBytes, from);
      if (from < to) await this.#target.zero(from, to - from);
      if (to < end) await this.#zeroInBlock(to, end);
    }
    this.#zeroedBytes += lengthBytes;
  }

  async #zeroInBlock(start: number, end: number): Promise<void> {
    const at = this.#floor(start);
    const block = await this.#readBlock(at);
    block.fill(0, start - at, end - at);
    await this.#target.write(block, at);
  }

  async #readBlock(offsetBytes: number): Promise<Buffer<ArrayBuffer>> {
    const block = this.#target.allocate(this.#target.blockBytes);
    await this.#target.read(block, offsetBytes);
    return block;
  }

  #floor(offsetBytes: number): number {
    return offsetBytes - (offsetBytes % this.#target.blockBytes);
  }
}
