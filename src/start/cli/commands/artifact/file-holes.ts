import { fstatSync } from 'node:fs';
import { nextData } from '../../../../capture/adapters/libc.ts';

/** Tells holes of a file, so that nobody reads 20 GiB of zeros. */
export class Holes {
  readonly #fd: number;
  readonly #sizeBytes: number;
  #data: { readonly start: number; readonly end: number };

  constructor(fd: number) {
    this.#fd = fd;
    const status = fstatSync(fd);
    // A device has no holes, and its size is not in its status.
    this.#sizeBytes = status.isFile() ? status.size : 0;
    this.#data = { start: 0, end: 0 };
  }

  /** @returns how many bytes of a hole follow `position`; 0 where there is data, or no file */
  untilData(position: number): number {
    if (position >= this.#sizeBytes) return 0;
    if (position >= this.#data.end) {
      const end = { start: this.#sizeBytes, end: this.#sizeBytes };
      this.#data = nextData(this.#fd, position) ?? end;
    }
    return Math.max(0, Math.min(this.#data.start, this.#sizeBytes) - position);
  }

  /** @returns how many bytes of data follow `position`, from where {@link untilData} gave 0 */
  untilHole(position: number): number {
    return Math.min(this.#data.end, this.#sizeBytes) - position;
  }
}
