import { type FileHandle, open, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { IngotError, MIB } from '../../base/index.ts';
import { targetFailure } from './target-failure.ts';
import { writeAll } from './write-all.ts';

/** What the cutter counts in: a hole at another place would move its cuts. */
const BLOCK_BYTES = 4096;
/** Runs of zero blocks from here on become holes, as they do in a manifest. */
const HOLE_BYTES = 64 * 1024;
const ZEROS = Buffer.alloc(HOLE_BYTES);
/** Bytes between two looks at the free space. */
const LOOK_EVERY_BYTES = 64 * MIB;

/** Where the bytes go, and what must hold. */
export interface SparseTarget {
  /** A new file. */
  readonly path: string;
  /** How people know it. */
  readonly name: string;
  /** Bytes that must stay free on its filesystem; 0 takes all of it. */
  readonly keepFreeBytes: number;
  readonly signal: AbortSignal;
  /** Told the bytes so far, holes included. */
  readonly onBytes?: (doneBytes: number) => void;
}

/**
 * Writes a stream to a new file; runs of zero blocks of 64 KiB and more become holes.
 *
 * @throws IngotError `target-full`, `target-unwritable`; the signal's reason; what the stream throws
 */
export async function writeSparse(
  pieces: AsyncIterable<Uint8Array>,
  target: SparseTarget,
): Promise<void> {
  const file = await open(target.path, 'wx', 0o600).catch((thrown: unknown) => {
    throw targetFailure(thrown, target.name);
  });
  try {
    const writer = new SparseWriter(file, target);
    for await (const bytes of pieces) {
      target.signal.throwIfAborted();
      await writer.write(bytes);
      target.onBytes?.(writer.sizeBytes);
    }
    await writer.end();
  } finally {
    await file.close();
  }
}

class SparseWriter {
  readonly #file: FileHandle;
  readonly #target: SparseTarget;
  readonly #carry = Buffer.alloc(BLOCK_BYTES);
  #carryBytes = 0;
  /** Where the next whole block belongs. */
  #at = 0;
  /** Where a run of zero blocks began that is not written yet. */
  #zerosFrom: number | undefined;
  #writtenBytes = 0;
  #lookAt = 0;

  constructor(file: FileHandle, target: SparseTarget) {
    this.#file = file;
    this.#target = target;
  }

  get sizeBytes(): number {
    return this.#at + this.#carryBytes;
  }

  async write(bytes: Uint8Array): Promise<void> {
    let from = 0;
    if (this.#carryBytes > 0) {
      from = Math.min(BLOCK_BYTES - this.#carryBytes, bytes.byteLength);
      this.#carry.set(bytes.subarray(0, from), this.#carryBytes);
      this.#carryBytes += from;
      if (this.#carryBytes < BLOCK_BYTES) return;
      this.#carryBytes = 0;
      await this.#blocks(this.#carry);
    }
    const end = bytes.byteLength - ((bytes.byteLength - from) % BLOCK_BYTES);
    await this.#blocks(bytes.subarray(from, end));
    this.#carry.set(bytes.subarray(end));
    this.#carryBytes = bytes.byteLength - end;
  }

  async end(): Promise<void> {
    if (this.#carryBytes > 0) {
      await this.#endZeros(this.#at);
      await this.#put(this.#carry.subarray(0, this.#carryBytes), this.#at);
    }
    // A hole at the end has no byte that gives the file its length.
    await this.#file.truncate(this.sizeBytes);
  }

  async #blocks(bytes: Uint8Array): Promise<void> {
    let dataFrom = 0;
    for (let at = 0; at < bytes.byteLength; at += BLOCK_BYTES) {
      if (isZeroBlock(bytes, at)) {
        if (this.#zerosFrom !== undefined) continue;
        await this.#put(bytes.subarray(dataFrom, at), this.#at + dataFrom);
        this.#zerosFrom = this.#at + at;
      } else if (this.#zerosFrom !== undefined) {
        await this.#endZeros(this.#at + at);
        dataFrom = at;
      }
    }
    if (this.#zerosFrom === undefined) {
      await this.#put(bytes.subarray(dataFrom), this.#at + dataFrom);
    }
    this.#at += bytes.byteLength;
  }

  /** A short run is written, a long one left out. */
  async #endZeros(endByte: number): Promise<void> {
    const from = this.#zerosFrom;
    this.#zerosFrom = undefined;
    if (from === undefined || endByte - from >= HOLE_BYTES) return;
    await this.#put(ZEROS.subarray(0, endByte - from), from);
  }

  async #put(bytes: Uint8Array, offsetBytes: number): Promise<void> {
    if (bytes.byteLength === 0) return;
    await this.#checkRoom();
    try {
      await writeAll(this.#file, bytes, offsetBytes);
    } catch (thrown) {
      throw targetFailure(thrown, this.#target.name);
    }
    this.#writtenBytes += bytes.byteLength;
  }

  async #checkRoom(): Promise<void> {
    const { keepFreeBytes, path, name } = this.#target;
    if (keepFreeBytes === 0 || this.#writtenBytes < this.#lookAt) return;
    this.#lookAt = this.#writtenBytes + LOOK_EVERY_BYTES;
    const { bavail, bsize } = await statfs(dirname(path));
    if (bavail * bsize >= keepFreeBytes) return;
    throw new IngotError('target-full', `${name} has ${bavail * bsize} bytes left`, {
      freeBytes: bavail * bsize,
      keepFreeBytes,
    });
  }
}

/** The first byte tells most blocks that are not zero. */
function isZeroBlock(bytes: Uint8Array, at: number): boolean {
  return bytes[at] === 0 && ZEROS.compare(bytes, at, at + BLOCK_BYTES, 0, BLOCK_BYTES) === 0;
}
