import { releaseMemory } from '../../bytes/index.ts';

/**
 * Bytes that several readers copy from, and whose memory is given back when the last has.
 *
 * Left to the collector, each 64 MB of such buffers would cost a walk through the whole heap.
 */
export class KeptBytes {
  readonly #coming: Promise<Buffer>;
  #users = 0;
  #isDropped = false;

  /** @param coming nobody else looks at it; a failure goes to whoever copies; if nobody does, nobody hears of it */
  constructor(coming: Promise<Buffer>) {
    this.#coming = coming;
    coming.catch(() => undefined);
  }

  /** Hands the bytes to `copy`, which must not keep them. */
  async use<T>(copy: (plain: Buffer) => T): Promise<T> {
    const { plain, release } = await this.lend();
    try {
      return copy(plain);
    } finally {
      release();
    }
  }

  /** Lends the bytes until `release` is called, once. */
  async lend(): Promise<{ readonly plain: Buffer; readonly release: () => void }> {
    if (this.#isDropped) throw new Error('bytes were dropped before they were used');
    this.#users += 1;
    const giveBack = (): void => {
      this.#users -= 1;
      this.#mayRelease();
    };
    try {
      return { plain: await this.#coming, release: giveBack };
    } catch (thrown) {
      giveBack();
      throw thrown;
    }
  }

  /** Nobody will ask any more; who has asked still gets the bytes. Calling it twice is safe. */
  drop(): void {
    if (this.#isDropped) return;
    this.#isDropped = true;
    this.#mayRelease();
  }

  #mayRelease(): void {
    if (!this.#isDropped || this.#users > 0) return;
    this.#coming.then(releaseMemory, () => undefined);
  }
}
