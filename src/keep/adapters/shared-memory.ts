import koffi from 'koffi';
import { alignedMemory } from '../../base/index.ts';
import type { LentBuffer } from '../chunks/chunk-workers.ts';

/** Buffers of one size in memory that threads share, made when they are needed, used again. */
export class SharedMemory {
  readonly #lengthBytes: number;
  readonly #idle: Buffer[] = [];
  readonly #waiting: ((buffer: Buffer) => void)[] = [];
  #left: number;

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
        const next = this.#waiting.shift();
        if (next === undefined) this.#idle.push(buffer);
        else next(buffer);
      },
    };
  }

  #take(): Buffer | Promise<Buffer> {
    const idle = this.#idle.pop();
    if (idle !== undefined) return idle;
    if (this.#left > 0) {
      this.#left -= 1;
      return alignedShared(this.#lengthBytes);
    }
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
    });
  }
}

/** Makes memory that all threads see, at an address that O_DIRECT takes. */
export function alignedShared(lengthBytes: number): Buffer {
  return alignedMemory(lengthBytes, koffi.address, (length) =>
    Buffer.from(new SharedArrayBuffer(length)),
  );
}
