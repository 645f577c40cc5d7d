import { isFailure, MIB } from '../../base/index.ts';
import type { Disk } from '../chunks/disk.ts';

const FILE = 'reserve';
/** Not zeros: a filesystem that compresses or skips them would keep nothing back. */
const PIECE = Buffer.alloc(MIB, 'ingot reserve ');

/** A file that only takes space, given up so that deletes and collection work on a full disk. */
export class Reserve {
  readonly #disk: Disk;
  readonly #sizeBytes: number;

  constructor(disk: Disk, sizeBytes: number) {
    this.#disk = disk;
    this.#sizeBytes = sizeBytes;
  }

  /** Makes the file where it is missing and there is plenty of room. */
  async fill(): Promise<void> {
    if (this.#sizeBytes === 0) return;
    if ((await this.#disk.sizeOf(FILE)) === this.#sizeBytes) return;
    if ((await this.#disk.freeBytes()) < 4 * this.#sizeBytes) return;
    await this.#disk.remove(FILE);
    await using file = await this.#disk.create(FILE);
    for (let left = this.#sizeBytes; left > 0; left -= PIECE.length) {
      await file.append([PIECE.subarray(0, left)]);
    }
    await file.datasync();
  }

  /** Does work that frees space in the end; when the disk is full, once more without the file. */
  async whileFreeing<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (!isFailure(error, 'library-full')) throw error;
      await this.#disk.remove(FILE);
      return await work();
    }
  }
}
