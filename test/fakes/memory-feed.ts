import { crc32, deflateRawSync, inflateRawSync, constants as zlib } from 'node:zlib';
import { digestOf, IngotError } from '../../src/base/index.ts';
import type { SegmentCodec } from '../../src/keep/index.ts';
import type { FeedChunk, FeedEntry, FeedPage, RestoreFeed } from '../../src/publish/index.ts';

/** A codec in a few lines; tests of restores do not depend on the real ones. */
export const testCodec: SegmentCodec = {
  name: 'test',
  crc32: (bytes) => crc32(bytes),
  encode: async (plain) => deflateRawSync(plain, { finishFlush: zlib.Z_SYNC_FLUSH, level: 1 }),
  decode: async (coded, plainBytes) => {
    const plain = inflateRawSync(coded, { finishFlush: zlib.Z_SYNC_FLUSH });
    if (plain.length !== plainBytes) {
      throw new IngotError('segment-malformed', `${plain.length} of ${plainBytes} bytes`);
    }
    return plain;
  },
};

/** How a disk in memory becomes a feed. */
export interface MemoryFeedOptions {
  readonly name?: string;
  readonly entriesPerPage?: number;
  /** Lengths of extents in turn; an extent of zeros becomes a hole. */
  readonly extentBytes?: readonly number[];
}

/** An image in memory, cut as a test wants it. */
export class MemoryFeed implements RestoreFeed {
  readonly name: string;
  readonly sizeBytes: number;
  readonly pages: readonly FeedPage[];
  readonly #entries: FeedEntry[][] = [];
  readonly #coded = new Map<string, Buffer>();
  /** Digests in the order in which they were asked for. */
  readonly asked: string[] = [];
  /** Called before each chunk is given out: a test makes it fail. */
  beforeRead: () => void = () => undefined;

  constructor(disk: Buffer, options: MemoryFeedOptions = {}) {
    const { name = 'img-test1', entriesPerPage = 5, extentBytes = [64 * 1024] } = options;
    this.name = name;
    this.sizeBytes = disk.length;
    const entries: FeedEntry[] = [];
    for (let at = 0, turn = 0; at < disk.length; turn++) {
      const lengthBytes = Math.min(
        extentBytes[turn % extentBytes.length] ?? 4096,
        disk.length - at,
      );
      const plain = disk.subarray(at, at + lengthBytes);
      at += lengthBytes;
      if (plain.every((byte) => byte === 0)) {
        entries.push({ kind: 'hole', lengthBytes });
        continue;
      }
      const digest = digestOf(plain);
      this.#coded.set(digest, deflateRawSync(plain, { finishFlush: zlib.Z_SYNC_FLUSH, level: 1 }));
      const pageIndex = Math.floor(entries.length / entriesPerPage);
      const entryIndex = entries.length % entriesPerPage;
      entries.push({ kind: 'chunk', digest, lengthBytes, pageIndex, entryIndex });
    }
    const pages: FeedPage[] = [];
    for (let first = 0, start = 0; first < entries.length; first += entriesPerPage) {
      const page = entries.slice(first, first + entriesPerPage);
      const plainBytes = page.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
      this.#entries.push(page);
      pages.push({ plainStartBytes: start, plainBytes });
      start += plainBytes;
    }
    this.pages = pages;
  }

  async page(index: number): Promise<readonly FeedEntry[]> {
    const page = this.#entries[index];
    if (page === undefined) throw new IngotError('manifest-invalid', `there is no page ${index}`);
    return page;
  }

  async readCoded(chunks: readonly FeedChunk[]): Promise<Buffer[]> {
    return chunks.map(({ digest, pageIndex, entryIndex }) => {
      this.beforeRead();
      this.asked.push(digest);
      const entry = this.#entries[pageIndex]?.[entryIndex];
      const isThere = entry?.kind === 'chunk' && entry.digest === digest;
      const coded = isThere ? this.#coded.get(digest) : undefined;
      if (coded === undefined) throw new IngotError('chunk-missing', `there is no ${digest}`);
      return coded;
    });
  }

  giveBack(): void {
    // The next call gives the same buffers.
  }

  /** Changes the coded bytes of one chunk, so that they are those of another chunk. */
  spoil(digest: string): void {
    const other = Buffer.alloc(64 * 1024, 'x');
    this.#coded.set(digest, deflateRawSync(other, { finishFlush: zlib.Z_SYNC_FLUSH }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#coded.clear();
  }
}
