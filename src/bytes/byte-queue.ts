import { copyBytes } from '../base/index.ts';
import { pushJoined } from './push-joined.ts';

/**
 * Bytes that arrive in buffers and leave in pieces of other lengths; copies only across buffers that
 * do not lie one behind the other.
 */
export class ByteQueue {
  readonly #buffers: Buffer[] = [];
  /** Where the first byte lies in the first buffer. */
  #start = 0;
  #length = 0;

  /** How many bytes wait. */
  get length(): number {
    return this.#length;
  }

  /** @param bytes must not change any more */
  push(bytes: Buffer): void {
    if (bytes.byteLength === 0) return;
    this.#length += bytes.byteLength;
    pushJoined(this.#buffers, bytes);
  }

  /**
   * Copies all that waits to the end of `room`, so that no buffer that was pushed is needed any
   * more, and so that what is pushed next may lie right behind it.
   */
  moveToEndOf(room: Buffer): void {
    const target = room.subarray(room.byteLength - this.#length);
    if (this.#length > room.byteLength) {
      throw new RangeError(`${this.#length} bytes wait, and there is room for ${room.byteLength}`);
    }
    let at = 0;
    for (const [i, buffer] of this.#buffers.entries()) {
      const bytes = i === 0 ? buffer.subarray(this.#start) : buffer;
      copyBytes(target, at, bytes);
      at += bytes.byteLength;
    }
    this.#buffers.length = 0;
    this.#start = 0;
    if (this.#length > 0) this.#buffers.push(target);
  }

  /**
   * Looks at bytes without taking them.
   *
   * @param from counted from the first waiting byte; `from + length` at most {@link length}
   */
  peek(from: number, length: number): Buffer {
    if (from + length > this.#length) {
      throw new RangeError(`bytes ${from} to ${from + length} of ${this.#length}`);
    }
    let at = this.#start + from;
    let index = 0;
    for (; at >= this.#byteLengthOf(index); index++) {
      if (length === 0) return Buffer.alloc(0);
      at -= this.#byteLengthOf(index);
    }
    const first = this.#buffers[index];
    if (first !== undefined && at + length <= first.byteLength) {
      return first.subarray(at, at + length);
    }
    const parts: Buffer[] = [];
    for (let left = length; left > 0; index++) {
      const part = this.#buffers[index]?.subarray(at, at + left) ?? Buffer.alloc(0);
      parts.push(part);
      left -= part.byteLength;
      at = 0;
    }
    return Buffer.concat(parts);
  }

  /** Takes bytes off the front. */
  take(length: number): Buffer {
    const bytes = this.peek(0, length);
    this.#length -= length;
    this.#start += length;
    for (let first = this.#buffers[0]; first !== undefined; first = this.#buffers[0]) {
      if (this.#start < first.byteLength) break;
      this.#start -= first.byteLength;
      this.#buffers.shift();
    }
    return bytes;
  }

  #byteLengthOf(index: number): number {
    return this.#buffers[index]?.byteLength ?? Number.POSITIVE_INFINITY;
  }
}
