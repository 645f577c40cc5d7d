/**
 * Buffers for a stream that are used again: fresh ones for every MiB would keep the collector busy.
 *
 * A buffer is used again once so many bytes of later buffers were given out.
 */
export class ReusedBuffers {
  readonly #bufferBytes: number;
  readonly #keptBytes: number;
  readonly #allocate: (sizeBytes: number) => Buffer;
  /** Of these buffers, so far. */
  #givenBytes = 0;
  readonly #used: { readonly buffer: Buffer; readonly endByte: number }[] = [];

  /** @param options `keptBytes`: infinite for buffers that are never used again */
  constructor(options: {
    readonly bufferBytes: number;
    readonly keptBytes: number;
    readonly allocate: (sizeBytes: number) => Buffer;
  }) {
    this.#bufferBytes = options.bufferBytes;
    this.#keptBytes = options.keptBytes;
    this.#allocate = options.allocate;
  }

  /** Gives a buffer to fill. */
  take(): Buffer {
    const oldest = this.#used[0];
    if (oldest === undefined || this.#givenBytes - oldest.endByte < this.#keptBytes) {
      return this.#allocate(this.#bufferBytes);
    }
    this.#used.shift();
    return oldest.buffer;
  }

  /**
   * Counts bytes of a buffer that are given out now. What lies in other memory, such as zeros, does
   * not count: who works on a buffer may be far behind where a hole is passed over.
   */
  gaveOut(buffer: Buffer, sizeBytes: number): void {
    this.#givenBytes += sizeBytes;
    if (!Number.isFinite(this.#keptBytes)) return;
    this.#used.push({ buffer, endByte: this.#givenBytes });
  }
}
