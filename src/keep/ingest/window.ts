import type { LentBuffer } from '../chunks/chunk-workers.ts';

/** Lent memory with bytes of a disk. It goes back when the last of those who hold it lets go. */
export class Window {
  readonly bytes: Buffer;
  readonly #lent: LentBuffer;
  #holders = 1;

  /** Whoever makes it holds it. */
  constructor(lent: LentBuffer) {
    this.#lent = lent;
    this.bytes = lent.bytes;
  }

  hold(): void {
    this.#holders += 1;
  }

  release(): void {
    this.#holders -= 1;
    if (this.#holders === 0) this.#lent[Symbol.dispose]();
  }
}
