const NOTHING = Buffer.alloc(0);

/**
 * Reads a stream of pieces in the amounts that a parser needs.
 *
 * Holds at most one piece and what the caller asked for. Only one call may be open at a time.
 */
export class ByteStream {
  readonly #source: AsyncIterator<Uint8Array>;
  #piece: Buffer = NOTHING;
  #offsetBytes = 0;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** How many bytes were taken so far. */
  get offsetBytes(): number {
    return this.#offsetBytes;
  }

  /**
   * Takes the next bytes, as few as one and as many as `maxBytes`.
   *
   * @returns undefined at the end; the buffer is valid until the source reuses it
   */
  async takeSome(maxBytes: number): Promise<Buffer | undefined> {
    while (this.#piece.length === 0) {
      const next = await this.#source.next();
      if (next.done === true) return undefined;
      const { buffer, byteOffset, byteLength } = next.value;
      this.#piece = Buffer.from(buffer, byteOffset, byteLength);
    }
    const taken = this.#piece.subarray(0, maxBytes);
    this.#piece = this.#piece.subarray(taken.length);
    this.#offsetBytes += taken.length;
    return taken;
  }

  /**
   * Takes exactly `lengthBytes`, or fewer when the stream ends before.
   *
   * @returns a buffer of the caller's own, never longer than asked for
   */
  async take(lengthBytes: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    let missing = lengthBytes;
    while (missing > 0) {
      const part = await this.takeSome(missing);
      if (part === undefined) break;
      parts.push(Buffer.from(part));
      missing -= part.length;
    }
    const only = parts[0];
    return parts.length === 1 && only !== undefined ? only : Buffer.concat(parts);
  }

  /** Lets the source clean up when the caller stops before its end. Safe to call twice. */
  async close(): Promise<void> {
    this.#piece = NOTHING;
    await this.#source.return?.();
  }
}
