/**
 * Finds which of many parts, laid end to end, holds a byte.
 *
 * Keeps 8 bytes per part. Searching is a binary search in the running sums.
 */
export class OffsetTable {
  /** Where each part begins, and one more: where the last one ends. */
  readonly #starts: Float64Array;

  /** @param lengths bytes of each part, in order; a part may be empty */
  constructor(lengths: readonly number[]) {
    this.#starts = new Float64Array(lengths.length + 1);
    let total = 0;
    for (const [i, length] of lengths.entries()) {
      total += length;
      this.#starts[i + 1] = total;
    }
  }

  get totalBytes(): number {
    return this.#starts.at(-1) ?? 0;
  }

  /** @returns where a part begins; for the number of parts, the end of the last one */
  startOf(index: number): number {
    const start = this.#starts[index];
    if (start === undefined) {
      throw new RangeError(`part ${index} of ${this.#starts.length - 1}`);
    }
    return start;
  }

  /**
   * @param offsetBytes 0 or more
   * @returns the part that holds this byte (never an empty one); the number of parts at or beyond
   *   the end
   */
  partAt(offsetBytes: number): number {
    let low = 0;
    let high = this.#starts.length - 1;
    // The first part whose end lies beyond the byte.
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#starts[middle + 1] ?? 0) > offsetBytes) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
