/**
 * Lends out buffers of one size again and again.
 *
 * V8 collects the whole heap for each 64 MB of new buffers, which costs more than a copy through
 * them.
 */
export class BufferPool {
  readonly #make: () => Buffer;
  readonly #maxIdle: number;
  readonly #idle: Buffer[] = [];

  /** @param maxIdle how many are kept for later at most */
  constructor(make: () => Buffer, maxIdle: number) {
    this.#make = make;
    this.#maxIdle = maxIdle;
  }

  /** Gives a buffer that holds anything. */
  take(): Buffer {
    return this.#idle.pop() ?? this.#make();
  }

  /** @param buffer from `take`; nobody has a view into it any more */
  giveBack(buffer: Buffer): void {
    if (this.#idle.length < this.#maxIdle) this.#idle.push(buffer);
  }
}
