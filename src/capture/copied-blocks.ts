import { KIB, MARK_BYTES, SecretMarks } from '../base/index.ts';
import type { Extent } from '../bytes/index.ts';
import { isZero } from './zero-bytes.ts';

/** The smallest block that is written anew when a byte of it changed. */
const MIN_BLOCK_BYTES = 64 * KIB;
/** 34 MB for what is known of so many blocks; a larger disk has larger blocks. */
const MAX_BLOCKS = 2 ** 21;

/** What a target has in a block. */
const UNKNOWN = 0;
const ZERO = 1;
const DATA = 2;

/** Remembers what each block of a target holds, so that only what differs is written again. */
export class CopiedBlocks {
  readonly blockBytes: number;
  readonly #sizeBytes: number;
  readonly #states: Uint8Array;
  readonly #marks: Buffer;
  readonly #secret = new SecretMarks();

  /** @param isBlank whether the target reads as zeros now */
  constructor({ sizeBytes, isBlank }: { readonly sizeBytes: number; readonly isBlank: boolean }) {
    let blockBytes = MIN_BLOCK_BYTES;
    while (Math.ceil(sizeBytes / blockBytes) > MAX_BLOCKS) blockBytes *= 2;
    this.blockBytes = blockBytes;
    this.#sizeBytes = sizeBytes;
    const count = Math.ceil(sizeBytes / blockBytes);
    this.#states = new Uint8Array(count).fill(isBlank ? ZERO : UNKNOWN);
    this.#marks = Buffer.alloc(count * MARK_BYTES);
  }

  /**
   * Notes what a block shall hold, which the caller then writes.
   *
   * @param offsetBytes where the block begins
   * @returns what has to be done for it
   */
  put(offsetBytes: number, bytes: Buffer): 'nothing' | 'write' | 'zero' {
    const index = offsetBytes / this.blockBytes;
    const state = this.#states[index];
    if (isZero(bytes)) {
      this.#states[index] = ZERO;
      return state === ZERO ? 'nothing' : 'zero';
    }
    const mark = this.#secret.markOf(bytes);
    const at = index * MARK_BYTES;
    if (state === DATA && mark.equals(this.#marks.subarray(at, at + MARK_BYTES))) {
      return 'nothing';
    }
    this.#states[index] = DATA;
    mark.copy(this.#marks, at);
    return 'write';
  }

  /**
   * Finds the blocks that shall be zeros and are not: those without a byte of the extents.
   *
   * @param extents ascending and merged
   */
  *leftovers(extents: Iterable<Extent>): Generator<Extent, void, undefined> {
    let next = 0;
    for (const { offsetBytes, lengthBytes } of extents) {
      yield* this.#notZero(next, Math.floor(offsetBytes / this.blockBytes));
      next = Math.ceil((offsetBytes + lengthBytes) / this.blockBytes);
    }
    yield* this.#notZero(next, this.#states.length);
  }

  *#notZero(from: number, to: number): Generator<Extent, void, undefined> {
    for (let start = from; start < to; start += 1) {
      if (this.#states[start] === ZERO) continue;
      let end = start;
      while (end < to && this.#states[end] !== ZERO) end += 1;
      const offsetBytes = start * this.blockBytes;
      const endBytes = Math.min(end * this.blockBytes, this.#sizeBytes);
      yield { offsetBytes, lengthBytes: endBytes - offsetBytes };
      start = end;
    }
  }
}
