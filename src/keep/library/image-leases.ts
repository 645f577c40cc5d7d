import type { Id } from '../../base/index.ts';

/**
 * Counts who reads which image, so that a destroyed one keeps its chunks until the last has ended.
 *
 * One daemon has the library, so its memory is enough: readers end with the process.
 */
export class ImageLeases {
  readonly #counts = new Map<Id<'img'>, number>();
  readonly #onFree: (imageId: Id<'img'>) => void;

  /** @param onFree told when nobody reads an image any more; must not throw */
  constructor(onFree: (imageId: Id<'img'>) => void) {
    this.#onFree = onFree;
  }

  has(imageId: Id<'img'>): boolean {
    return this.#counts.has(imageId);
  }

  /** @returns how to end the lease; ending it twice is safe */
  take(imageId: Id<'img'>): () => void {
    this.#counts.set(imageId, (this.#counts.get(imageId) ?? 0) + 1);
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      const left = (this.#counts.get(imageId) ?? 1) - 1;
      if (left > 0) this.#counts.set(imageId, left);
      else {
        this.#counts.delete(imageId);
        this.#onFree(imageId);
      }
    };
  }
}
