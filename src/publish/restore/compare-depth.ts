/** So many batches in a row without one equal chunk, and the target is taken for a foreign one. */
const BATCHES_TO_BELIEVE = 4;

/** Every so many batches are compared whole all the same. */
const WHOLE_EVERY = 32;

/**
 * Decides whether a batch is compared whole before it is written, or by one of its chunks.
 *
 * A target that a restore stopped on has an equal beginning, one that is updated is nearly all equal:
 * both are compared whole. On a new card nothing is equal, and reading it would take as long as
 * writing it.
 */
export class CompareDepth {
  #differentInRow = 0;

  /** @returns how the next batch is to be compared */
  next(): 'whole' | 'sample' {
    this.#differentInRow += 1;
    const isForeign = this.#differentInRow > BATCHES_TO_BELIEVE;
    return isForeign && this.#differentInRow % WHOLE_EVERY !== 0 ? 'sample' : 'whole';
  }

  /** Tells about a batch that was compared whole. @param hasEqual whether any chunk was there already */
  compared(hasEqual: boolean): void {
    if (hasEqual) this.#differentInRow = 0;
  }
}
