import koffi from 'koffi';
import { alignedMemory } from '../../base/index.ts';
import type { LentBuffer } from '../chunks/chunk-workers.ts';

const rawAdvise = koffi.load(null).func('int madvise(void *address, size_t length, int advice)');

/** @see sys/mman.h */
const MADV_DONTNEED = 4;

/**
 * Between two bodies of an upload nobody has a buffer either: their pages would be given back and
 * fetched again, about 1 ms for each.
 */
const REST_MS = 100;

/**
 * Buffers of one size in memory that threads share, made when they are needed, used again. Their
 * pages go back to the system when none has been lent for {@link REST_MS}.
 */
export class SharedMemory {
  readonly #lengthBytes: number;
  readonly #idle: Buffer[] = [];
  readonly #waiting: ((buffer: Buffer) => void)[] = [];
  #left: number;
  #lentCount = 0;
  #rest: NodeJS.Timeout | undefined;

  /** @param count how many are lent at once; who asks for more waits */
  constructor(lengthBytes: number, count: number) {
    this.#lengthBytes = lengthBytes;
    this.#left = count;
  }

  /** @returns a buffer of that length; one longer than the pool's is made for this call */
  async lend(lengthBytes: number): Promise<LentBuffer> {
    if (lengthBytes > this.#lengthBytes) {
      return { bytes: alignedShared(lengthBytes), [Symbol.dispose]: () => undefined };
    }
    const buffer = await this.#take();
    let isLent = true;
    return {
      bytes: buffer.subarray(0, lengthBytes),
      [Symbol.dispose]: () => {
        if (!isLent) return;
        isLent = false;
        this.#takeBack(buffer);
      },
    };
  }

  #take(): Buffer | Promise<Buffer> {
    const idle = this.#idle.pop();
    if (idle !== undefined || this.#left > 0) {
      this.#lentCount += 1;
      clearTimeout(this.#rest);
      if (idle !== undefined) return idle;
      this.#left -= 1;
      return alignedShared(this.#lengthBytes);
    }
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
    });
  }

  #takeBack(buffer: Buffer): void {
    const next = this.#waiting.shift();
    if (next !== undefined) {
      next(buffer);
      return;
    }
    this.#idle.push(buffer);
    this.#lentCount -= 1;
    if (this.#lentCount > 0) return;
    this.#rest = setTimeout(() => this.#idle.forEach(giveBackPages), REST_MS).unref();
  }
}

/**
 * Gives the pages of a buffer back to the system; they are fetched again, as zeros, when somebody
 * writes. Dropping the buffer would not do it: each thread that saw it keeps it until it collects,
 * which threads that rest do not.
 *
 * @see madvise(2) MADV_DONTNEED
 */
function giveBackPages(buffer: Buffer): void {
  // What it answers is of no use: where the system's pages are larger, they stay.
  rawAdvise(buffer, buffer.byteLength, MADV_DONTNEED);
}

/** Makes memory that all threads see, at an address that O_DIRECT takes. */
export function alignedShared(lengthBytes: number): Buffer {
  return alignedMemory(lengthBytes, koffi.address, (length) =>
    Buffer.from(new SharedArrayBuffer(length)),
  );
}
