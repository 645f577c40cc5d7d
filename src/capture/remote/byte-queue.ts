import { IngotError } from '../../base/index.ts';
import { releaseMemory } from '../../bytes/index.ts';

/**
 * Takes a stream apart: lines, exact lengths, or whatever came.
 *
 * Holds at most one piece of the stream and the line or length that is asked for.
 */
export class ByteQueue {
  readonly #source: AsyncIterator<Buffer, undefined>;
  readonly #ownsPieces: boolean;
  #rest: Buffer = Buffer.alloc(0);

  /**
   * @param options `ownsPieces`: nobody else looks at the stream's pieces, so that their memory is
   *   given back at once where it was copied; the collector would walk the heap for every 64 MB
   */
  constructor(
    source: AsyncIterator<Buffer, undefined>,
    { ownsPieces = false }: { readonly ownsPieces?: boolean } = {},
  ) {
    this.#source = source;
    this.#ownsPieces = ownsPieces;
  }

  /** @returns the next bytes, at least one, or undefined at the end of the stream */
  async next(): Promise<Buffer | undefined> {
    if (this.#rest.length > 0) {
      const piece = this.#rest;
      this.#rest = Buffer.alloc(0);
      return piece;
    }
    for (;;) {
      const { value, done } = await this.#source.next();
      if (done === true) return undefined;
      if (value.length > 0) return value;
    }
  }

  /** Puts bytes back in front; they must be the end of what `next` gave. */
  putBack(bytes: Buffer): void {
    this.#rest = this.#rest.length === 0 ? bytes : Buffer.concat([bytes, this.#rest]);
  }

  /**
   * Reads a line without its line end.
   *
   * @throws IngotError `frame-malformed` when it is longer, `source-truncated` at the stream's end
   */
  async line(maxBytes: number): Promise<string> {
    let text = Buffer.alloc(0);
    for (;;) {
      const piece = await this.#more('a line');
      const end = piece.indexOf(0x0a);
      const part = end < 0 ? piece : piece.subarray(0, end);
      if (text.length + part.length > maxBytes) {
        throw new IngotError('frame-malformed', `the device sent a line of over ${maxBytes} bytes`);
      }
      text = Buffer.concat([text, part]);
      if (end < 0) continue;
      this.putBack(piece.subarray(end + 1));
      return text.toString('utf8');
    }
  }

  /** @throws IngotError `source-truncated` when the stream ends before */
  async exactly(lengthBytes: number): Promise<Buffer> {
    const bytes = Buffer.allocUnsafeSlow(lengthBytes);
    await this.fill(bytes);
    return bytes;
  }

  /** Fills memory of the caller. @throws IngotError `source-truncated` when the stream ends before */
  async fill(target: Buffer): Promise<void> {
    for (let done = 0; done < target.length; ) {
      const piece = await this.#more(`${target.length - done} more bytes`);
      const taken = piece.copy(target, done);
      done += taken;
      if (taken < piece.length) this.putBack(piece.subarray(taken));
      else if (this.#ownsPieces) releaseMemory(piece);
    }
  }

  async #more(wanted: string): Promise<Buffer> {
    const piece = await this.next();
    if (piece === undefined) {
      throw new IngotError('source-truncated', `the device's stream ended, ${wanted} were due`);
    }
    return piece;
  }
}
