import type { FileHandle } from 'node:fs/promises';
import { KIB } from '../../../../base/index.ts';
import type { DirectWriter } from '../../../../capture/adapters/direct-writer.ts';
import { writeAll } from '../../../../capture/adapters/write-all.ts';

/** A file up to this is gathered in ordinary memory: it needs no native call. */
const SMALL_BYTES = 64 * KIB;

/** The disk is all that an artifact from the library waits for. */
const WRITES_AHEAD = 3;

/**
 * Writes a file front to back, past the page cache where the filesystem suits and the file is of
 * some size: pages for hundreds of MB cost more than the disk, and a sync has nothing left to wait
 * for.
 *
 * Does not own the handle that it is given.
 *
 * @see docs/adr/0013-artifacts-are-written-past-the-page-cache.md
 */
export class BlockWriter implements AsyncDisposable {
  readonly #handle: FileHandle;
  /** What is gathered until it is known that the file is not small. */
  #small: Buffer | undefined;
  /** How much of that a flush has written. */
  #flushedBytes = 0;
  /** Loaded and opened for files of some size. */
  #direct: Promise<DirectWriter | undefined> | undefined;
  #sizeBytes = 0;
  #failure: { readonly thrown: unknown } | undefined;

  /** @param handle of a file that is written from its start */
  constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  /** Bytes that were given. */
  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /**
   * Takes bytes; the buffer is the caller's again when this returns.
   *
   * @throws what writing these or earlier ones threw
   */
  async write(bytes: Uint8Array): Promise<void> {
    if (this.#direct === undefined && this.#sizeBytes + bytes.length <= SMALL_BYTES) {
      this.#small ??= Buffer.allocUnsafeSlow(SMALL_BYTES);
      this.#small.set(bytes, this.#sizeBytes);
      this.#sizeBytes += bytes.length;
      return;
    }
    await this.#leaveSmall();
    await this.#writeAt(bytes, this.#sizeBytes);
    this.#sizeBytes += bytes.length;
  }

  /**
   * Writes what is left and waits until all of it is written.
   *
   * @throws what writing threw
   */
  async flush(): Promise<void> {
    if (this.#direct === undefined) {
      await this.#writeSmall((bytes, at) => writeAll(this.#handle, bytes, at));
      return;
    }
    if (this.#failure !== undefined) throw this.#failure.thrown;
    await (await this.#direct)?.flush();
  }

  /** Leaves room for bytes that somebody else has written behind what a flush has written. */
  skip(lengthBytes: number): void {
    this.#sizeBytes += lengthBytes;
    // What is left to be written is an end: it needs no way past the cache.
    this.#direct ??= Promise.resolve(undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await (await this.#direct)?.[Symbol.asyncDispose]();
  }

  async #leaveSmall(): Promise<void> {
    if (this.#direct !== undefined) return;
    this.#direct = openDirect(this.#handle);
    await this.#writeSmall((bytes, at) => this.#writeAt(bytes, at));
    this.#small = undefined;
  }

  /** What was patched since a flush must not be written over. */
  async #writeSmall(
    write: (bytes: Uint8Array, offsetBytes: number) => Promise<void>,
  ): Promise<void> {
    const bytes = this.#small?.subarray(this.#flushedBytes, this.#sizeBytes);
    if (bytes === undefined || bytes.length === 0) return;
    await write(bytes, this.#flushedBytes);
    this.#flushedBytes = this.#sizeBytes;
  }

  async #writeAt(bytes: Uint8Array, offsetBytes: number): Promise<void> {
    const direct = await this.#direct;
    try {
      if (direct === undefined) await writeAll(this.#handle, bytes, offsetBytes);
      else await direct.write(bytes, offsetBytes);
    } catch (thrown) {
      this.#failure ??= { thrown };
      throw thrown;
    }
  }
}

async function openDirect(handle: FileHandle): Promise<DirectWriter | undefined> {
  const { DirectWriter } = await import('../../../../capture/adapters/direct-writer.ts');
  return await DirectWriter.open(handle, { writesAhead: WRITES_AHEAD });
}
