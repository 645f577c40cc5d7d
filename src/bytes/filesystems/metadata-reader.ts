import { IngotError } from '../../base/index.ts';
import type { ByteReader } from '../byte-reader.ts';

/** Metadata lies in clusters (bitmaps of a flex group, inode tables), so neighbours come along. */
const PAGE_BYTES = 64 * 1024;
/** 4 MiB: one flex group's bitmaps, a few tree paths. */
const MAX_PAGES = 64;
/** No structure that is read in one piece is larger. */
const MAX_READ_BYTES = 16 * 1024 * 1024;

/** Makes the failure that says why a structure on a disk cannot be believed. */
export function malformed(message: string): IngotError {
  return new IngotError('filesystem-malformed', message);
}

/**
 * Reads the metadata of one filesystem or partition, through a small cache of pages.
 *
 * Offsets count from the start of the filesystem. Every range is checked against its size first, so
 * that a pointer from the disk can be used as it is.
 */
export class MetadataReader {
  readonly sizeBytes: number;
  readonly #reader: ByteReader;
  readonly #originBytes: number;
  readonly #signal: AbortSignal | undefined;
  readonly #pages = new Map<number, Buffer>();

  constructor(
    reader: ByteReader,
    range: { readonly offsetBytes: number; readonly sizeBytes: number },
    signal?: AbortSignal,
  ) {
    this.#reader = reader;
    this.#originBytes = range.offsetBytes;
    this.sizeBytes = range.sizeBytes;
    this.#signal = signal;
  }

  /**
   * Reads exactly these bytes.
   *
   * @param what names the structure in a failure
   * @returns bytes that may be shared with other callers: read-only
   * @throws IngotError `filesystem-malformed` when the range is not inside the filesystem; whatever
   *   the reader throws; the signal's reason
   */
  async read(offsetBytes: number, lengthBytes: number, what: string): Promise<Buffer> {
    this.#signal?.throwIfAborted();
    const end = offsetBytes + lengthBytes;
    if (!(offsetBytes >= 0 && lengthBytes >= 0 && end <= this.sizeBytes)) {
      throw malformed(`${what} lies at ${offsetBytes}, outside of ${this.sizeBytes} bytes`);
    }
    if (!Number.isSafeInteger(offsetBytes) || lengthBytes > MAX_READ_BYTES) {
      throw malformed(`${what} has ${lengthBytes} bytes at ${offsetBytes}`);
    }
    if (lengthBytes > PAGE_BYTES) {
      return await this.#reader.read(this.#originBytes + offsetBytes, lengthBytes);
    }
    const first = Math.floor(offsetBytes / PAGE_BYTES);
    const page = await this.#page(first);
    const from = offsetBytes - first * PAGE_BYTES;
    if (from + lengthBytes <= PAGE_BYTES) return page.subarray(from, from + lengthBytes);
    const next = await this.#page(first + 1);
    return Buffer.concat([page.subarray(from), next.subarray(0, from + lengthBytes - PAGE_BYTES)]);
  }

  async #page(index: number): Promise<Buffer> {
    const cached = this.#pages.get(index);
    if (cached !== undefined) {
      this.#pages.delete(index);
      this.#pages.set(index, cached);
      return cached;
    }
    const offset = index * PAGE_BYTES;
    const length = Math.min(PAGE_BYTES, this.sizeBytes - offset);
    const page = await this.#reader.read(this.#originBytes + offset, length);
    this.#pages.set(index, page);
    for (const oldest of this.#pages.keys()) {
      if (this.#pages.size <= MAX_PAGES) break;
      this.#pages.delete(oldest);
    }
    return page;
  }
}
