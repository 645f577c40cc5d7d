import type { DigestStream } from './digest-stream.ts';
import { MIB } from './sizes.ts';

const BLOCK_BYTES = MIB;
/** One is filled, one is hashed, one waits. */
const BLOCKS = 3;
/** Zeros that are hashed in one go: then somebody may want to stop. */
const MAX_ZEROS = 64 * MIB;

/** Joins small pieces into large blocks for a digest on another thread. */
export class DigestBlocks {
  readonly #stream: DigestStream;
  readonly #free: Buffer[];
  /** Work that the stream has not done, in order. */
  readonly #under: Promise<void>[] = [];
  #current: Buffer | undefined;
  #filledBytes = 0;

  constructor(stream: DigestStream) {
    this.#stream = stream;
    this.#free = Array.from({ length: BLOCKS }, () => stream.allocate(BLOCK_BYTES));
  }

  /** Copies bytes; they may change afterwards. */
  async add(bytes: Uint8Array): Promise<void> {
    for (let from = 0; from < bytes.byteLength; ) {
      this.#current ??= await this.#freeBlock();
      const length = Math.min(bytes.byteLength - from, BLOCK_BYTES - this.#filledBytes);
      this.#current.set(bytes.subarray(from, from + length), this.#filledBytes);
      this.#filledBytes += length;
      from += length;
      if (this.#filledBytes === BLOCK_BYTES) this.#hand();
    }
  }

  /** @param signal is looked at now and then */
  async zeros(lengthBytes: number, signal?: AbortSignal): Promise<void> {
    this.#hand();
    for (let left = lengthBytes; left > 0; left -= MAX_ZEROS) {
      signal?.throwIfAborted();
      this.#push(this.#stream.zeros(Math.min(left, MAX_ZEROS)));
      while (this.#under.length > BLOCKS) await this.#under.shift();
    }
  }

  /** Hands over what is there: the stream may then be given other bytes directly. */
  flush(): void {
    this.#hand();
  }

  /** Waits until everything is in the digest. */
  async end(): Promise<void> {
    this.#hand();
    for (const under of this.#under.splice(0)) await under;
  }

  #hand(): void {
    const block = this.#current;
    if (block === undefined) return;
    const under = this.#stream.update(block.subarray(0, this.#filledBytes)).then(() => {
      this.#free.push(block);
    });
    this.#push(under);
    this.#current = undefined;
    this.#filledBytes = 0;
  }

  #push(under: Promise<void>): void {
    // Who gives the digest up waits for nothing: then nobody is told that the rest of it failed.
    under.catch(() => undefined);
    this.#under.push(under);
  }

  async #freeBlock(): Promise<Buffer> {
    for (;;) {
      const block = this.#free.pop();
      if (block !== undefined) return block;
      await this.#under.shift();
    }
  }
}
