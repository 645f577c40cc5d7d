/**
 * Buffers for a stream that are used again: fresh ones for every MiB would keep the collector busy.
 *
 * A buffer is used again once so many bytes behind it were given out.
 */
export class ReusedBuffers {
  readonly #bufferBytes: number;
  readonly #keptBytes: number;
  readonly #allocate: (sizeBytes: number) => Buffer;
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

  /** @param atByte how far bytes were given out */
  take(atByte: number): Buffer {
    const oldest = this.#used[0];
    if (oldest === undefined || atByte - oldest.endByte < this.#keptBytes) {
      return this.#allocate(this.#bufferBytes);
    }
    this.#used.shift();
    return oldest.buffer;
  }

  /** @param buffer what `take` gave, once a part of it was given out */
  gaveOut(buffer: Buffer, endByte: number): void {
    if (Number.isFinite(this.#keptBytes)) this.#used.push({ buffer, endByte });
  }
}
