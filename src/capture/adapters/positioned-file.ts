import { fsync, ftruncate, write } from 'node:fs';
import { promisify } from 'node:util';
import { errnoOf } from '../../base/index.ts';
import type { PositionedTarget, WriteWatch } from '../dump-target.ts';
import { ZEROS } from '../zero-bytes.ts';
import { punchHole } from './libc.ts';
import { targetFailure } from './target-failure.ts';

const writeAt = promisify(write);
const truncate = promisify(ftruncate);
const syncFile = promisify(fsync);

/** A descriptor that is written at positions, counted from where its target begins. */
export class PositionedFile implements PositionedTarget {
  readonly isBlank: boolean;
  readonly #fd: number;
  readonly #label: string;
  readonly #startBytes: number;
  readonly #onBegin: (sizeBytes: number) => void;

  /**
   * @param setup `isFile`: a regular file, which reads as zeros behind `startBytes`; `onBegin` is
   *   told the size of what will be written
   */
  constructor(setup: {
    readonly fd: number;
    readonly label: string;
    readonly isFile: boolean;
    readonly startBytes: number;
    readonly onBegin: (sizeBytes: number) => void;
  }) {
    this.isBlank = setup.isFile;
    this.#fd = setup.fd;
    this.#label = setup.label;
    this.#startBytes = setup.startBytes;
    this.#onBegin = setup.onBegin;
  }

  async begin(sizeBytes: number): Promise<void> {
    this.#onBegin(sizeBytes);
    if (!this.isBlank) return;
    await this.#named(truncate(this.#fd, this.#startBytes + sizeBytes));
  }

  async writeAt(offsetBytes: number, bytes: Uint8Array, watch: WriteWatch): Promise<void> {
    watch.alive();
    for (let done = 0; done < bytes.length; ) {
      const at = this.#startBytes + offsetBytes + done;
      const left = bytes.length - done;
      const { bytesWritten } = await this.#named(writeAt(this.#fd, bytes, done, left, at));
      done += bytesWritten;
      watch.wrote(bytesWritten);
    }
  }

  async zeroAt(offsetBytes: number, lengthBytes: number, watch: WriteWatch): Promise<void> {
    watch.alive();
    if (this.isBlank) {
      try {
        await punchHole(this.#fd, this.#startBytes + offsetBytes, lengthBytes);
        return;
      } catch (thrown) {
        // The filesystem of the file has no holes, so zeros are written.
        if (errnoOf(thrown) !== 'EOPNOTSUPP') throw targetFailure(thrown, this.#label);
      }
    }
    for (let done = 0; done < lengthBytes; done += ZEROS.length) {
      const zeros = ZEROS.subarray(0, Math.min(ZEROS.length, lengthBytes - done));
      await this.writeAt(offsetBytes + done, zeros, watch);
    }
  }

  async sync(): Promise<void> {
    await this.#named(syncFile(this.#fd));
  }

  async #named<T>(call: Promise<T>): Promise<T> {
    try {
      return await call;
    } catch (thrown) {
      throw targetFailure(thrown, this.#label);
    }
  }
}
