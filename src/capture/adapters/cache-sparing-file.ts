import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { ALIGNMENT_BYTES, errnoOf, KIB } from '../../base/index.ts';
import { addressOf, residentBytes } from './libc.ts';

/** So much of a read says whether all of it is in the page cache: looking costs time for each page. */
const SAMPLE_BYTES = 64 * KIB;

/**
 * Reads a file once, from end to end: from the page cache what is in it, past it what is not.
 *
 * What comes from the disk then fills no fresh pages, which takes a quarter of an import's time, and
 * does not push out what other programs keep there. The kernel keeps both ways coherent: what is in
 * the cache and not on the disk yet is written before it is read past the cache.
 *
 * @see open(2) O_DIRECT, mincore(2), docs/adr/0017-cold-files-are-read-past-the-page-cache.md
 */
export class CacheSparingFile implements AsyncDisposable {
  readonly #buffered: FileHandle;
  #direct: FileHandle | undefined;

  private constructor(buffered: FileHandle, direct: FileHandle | undefined) {
    this.#buffered = buffered;
    this.#direct = direct;
  }

  /** @param buffered the file, open for reading; its owner closes it */
  static async open(buffered: FileHandle): Promise<CacheSparingFile> {
    const flags = constants.O_RDONLY | constants.O_DIRECT;
    // Whoever was handed a descriptor may not open the file; some filesystems know no direct reads.
    const direct = await open(`/proc/self/fd/${buffered.fd}`, flags).catch(() => undefined);
    return new CacheSparingFile(buffered, direct);
  }

  /**
   * Reads into memory of the caller; where that lies in its page as the offset does, without a copy.
   *
   * @returns how many bytes were read: 0 at the end of the file
   */
  async readInto(target: Buffer, offsetBytes: number): Promise<number> {
    const direct = this.#direct;
    if (
      direct !== undefined &&
      isAligned(target, offsetBytes) &&
      this.isCold(target.byteLength, offsetBytes)
    ) {
      try {
        const { bytesRead } = await direct.read(target, 0, target.byteLength, offsetBytes);
        if (bytesRead > 0) return bytesRead;
      } catch (thrown) {
        // The filesystem takes no direct reads after all.
        if (errnoOf(thrown) !== 'EINVAL') throw thrown;
        this.#direct = undefined;
        await direct.close();
      }
    }
    const { bytesRead } = await this.#buffered.read(target, 0, target.byteLength, offsetBytes);
    return bytesRead;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#direct?.close();
  }

  /** @returns whether less than half of a read's start is in the page cache */
  isCold(lengthBytes: number, offsetBytes: number): boolean {
    const sampleBytes = Math.min(lengthBytes, SAMPLE_BYTES);
    return residentBytes(this.#buffered.fd, offsetBytes, sampleBytes) < sampleBytes / 2;
  }
}

function isAligned(target: Buffer, offsetBytes: number): boolean {
  if (offsetBytes % ALIGNMENT_BYTES !== 0 || target.byteLength % ALIGNMENT_BYTES !== 0)
    return false;
  return addressOf(target) % BigInt(ALIGNMENT_BYTES) === 0n;
}
