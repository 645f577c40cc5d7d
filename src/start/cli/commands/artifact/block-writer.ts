import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { alignedMemory, errnoOf, KIB, MIB } from '../../../../base/index.ts';

/** What is written at once: large enough that the disk, and not the calls, takes the time. */
const BLOCK_BYTES = 4 * MIB;
/** Three are on their way to the disk while one is filled. */
const BLOCKS = 4;
/** A file up to this is gathered in ordinary memory: it needs no native call. */
const SMALL_BYTES = 64 * KIB;

/** Loaded for files of some size. */
const libc = () => import('../../../../capture/adapters/libc.ts');

/** Writes all of `bytes`, at `position` or where the file's own position is. */
export async function writeAll(handle: FileHandle, bytes: Uint8Array, position: number | null) {
  for (let done = 0; done < bytes.byteLength; ) {
    const at = position === null ? null : position + done;
    const { bytesWritten } = await handle.write(bytes, done, bytes.byteLength - done, at);
    done += bytesWritten;
  }
}

/** A block that is on its way to the disk. */
interface Writing {
  readonly block: Buffer;
  readonly done: Promise<void>;
}

/**
 * Writes a file front to back in large blocks that go past the page cache where the filesystem lets
 * them: pages for hundreds of MB cost more than the disk, and a sync has nothing left to wait for.
 *
 * Does not own the handle that it is given; disposal closes its own.
 *
 * @see docs/adr/0013-artifacts-are-written-past-the-page-cache.md
 */
export class BlockWriter implements AsyncDisposable {
  /** For what does not end at a block, and for all of it where nothing else can be. */
  readonly #handle: FileHandle;
  #direct: Promise<FileHandle | undefined> | undefined;
  /** Where the block that is filled begins, and how far it is. */
  #at = 0;
  #filledBytes = 0;
  #block: Buffer = Buffer.alloc(0);
  #blocksMade = 0;
  readonly #free: Buffer[] = [];
  readonly #writing: Writing[] = [];

  /** @param handle of a file that is written from its start */
  constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  /** Bytes that were given. */
  get sizeBytes(): number {
    return this.#at + this.#filledBytes;
  }

  /**
   * Copies bytes; the buffer is the caller's again when this returns.
   *
   * @throws what writing these or earlier ones threw
   */
  async write(bytes: Uint8Array): Promise<void> {
    for (let from = 0; from < bytes.byteLength; ) {
      if (this.#filledBytes === this.#block.length) await this.#makeRoom(bytes.byteLength - from);
      const length = Math.min(bytes.byteLength - from, this.#block.length - this.#filledBytes);
      this.#block.set(bytes.subarray(from, from + length), this.#filledBytes);
      this.#filledBytes += length;
      from += length;
      if (this.#filledBytes === BLOCK_BYTES) this.#send();
    }
  }

  /**
   * Writes what is left and waits until all of it is written.
   *
   * @throws what writing threw
   */
  async flush(): Promise<void> {
    while (this.#writing.length > 0) await this.#waitForOldest();
    const rest = this.#block.subarray(0, this.#filledBytes);
    await writeAll(this.#handle, rest, this.#at);
    this.#at += rest.length;
    this.#filledBytes = 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled(this.#writing.map(({ done }) => done));
    await (await this.#direct)?.close();
  }

  /** Gives the next bytes a place: a small buffer first, blocks for whatever has more. */
  async #makeRoom(moreBytes: number): Promise<void> {
    if (this.#blocksMade === 0 && this.#filledBytes === 0 && moreBytes <= SMALL_BYTES) {
      this.#block = Buffer.allocUnsafeSlow(SMALL_BYTES);
      return;
    }
    const block = await this.#freeBlock();
    this.#block.copy(block, 0, 0, this.#filledBytes);
    this.#block = block;
  }

  async #freeBlock(): Promise<Buffer> {
    if (this.#blocksMade === BLOCKS) await this.#waitForOldest();
    const free = this.#free.pop();
    if (free !== undefined) return free;
    this.#blocksMade++;
    const { addressOf } = await libc();
    return alignedMemory(BLOCK_BYTES, addressOf, (bytes) => Buffer.allocUnsafeSlow(bytes));
  }

  /** Begins to write the block that is full. */
  #send(): void {
    const [block, at] = [this.#block, this.#at];
    const done = this.#writeBlock(block, at);
    // Whoever writes next, or flushes, hears of it.
    done.catch(() => undefined);
    this.#writing.push({ block, done });
    this.#at += BLOCK_BYTES;
    this.#filledBytes = 0;
    this.#block = Buffer.alloc(0);
  }

  async #waitForOldest(): Promise<void> {
    const [oldest] = this.#writing;
    if (oldest === undefined) return;
    await oldest.done;
    this.#writing.shift();
    this.#free.push(oldest.block);
  }

  async #writeBlock(block: Buffer, at: number): Promise<void> {
    this.#direct ??= this.#openDirect();
    const direct = await this.#direct;
    try {
      return await writeAll(direct ?? this.#handle, block, at);
    } catch (thrown) {
      // Larger blocks than ours, or an offset that a flush left between two of them.
      if (direct === undefined || errnoOf(thrown) !== 'EINVAL') throw thrown;
    }
    await writeAll(this.#handle, block, at);
  }

  /** @returns undefined where direct writes, or a second handle, are refused */
  async #openDirect(): Promise<FileHandle | undefined> {
    const again = `/proc/self/fd/${this.#handle.fd}`;
    return await open(again, constants.O_WRONLY | constants.O_DIRECT).catch(() => undefined);
  }
}
