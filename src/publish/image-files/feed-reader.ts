import { type Digest, IngotError } from '../../base/index.ts';
import type { ByteReader } from '../../bytes/index.ts';
import type { PlainChunks } from '../restore/plain-chunks.ts';
import {
  type FeedChunk,
  type FeedEntry,
  MAX_FEED_READ_BYTES,
  type RestoreFeed,
} from '../restore/restore-feed.ts';

/** Plain bytes of chunks that are kept: a directory's small files lie in a few of them. */
const CACHE_BYTES = 32 * 1024 * 1024;
/** Pages that are kept, each with at most 2048 entries. */
const CACHED_PAGES = 16;

/** A part of an image by content: equal names mean equal bytes. */
export interface NamedPiece {
  /** Undefined for zeros. */
  readonly digest: Digest | undefined;
  /** Where in the chunk the piece begins. */
  readonly startBytes: number;
  readonly lengthBytes: number;
}

interface Page {
  readonly entries: readonly FeedEntry[];
  /** Where on the disk each entry begins. */
  readonly offsets: readonly number[];
}

interface KeptChunk {
  readonly plain: Promise<Buffer>;
  readonly lengthBytes: number;
}

interface Piece extends NamedPiece {
  readonly chunk: FeedChunk | undefined;
}

/** Reads an image at any offset, chunk by chunk, each checked against its digest. */
export class FeedReader implements ByteReader {
  readonly sizeBytes: number;
  readonly #feed: RestoreFeed;
  readonly #chunks: PlainChunks;
  readonly #signal: AbortSignal | undefined;
  readonly #pages = new Map<number, Promise<Page>>();
  /** In order of use: the first is the oldest. */
  readonly #kept = new Map<Digest, KeptChunk>();
  #keptBytes = 0;

  constructor(feed: RestoreFeed, chunks: PlainChunks, signal?: AbortSignal) {
    this.sizeBytes = feed.sizeBytes;
    this.#feed = feed;
    this.#chunks = chunks;
    this.#signal = signal;
  }

  async read(offsetBytes: number, lengthBytes: number): Promise<Buffer> {
    const result = Buffer.alloc(lengthBytes);
    let at = 0;
    for (let from = offsetBytes; from < offsetBytes + lengthBytes; from += MAX_FEED_READ_BYTES) {
      const length = Math.min(MAX_FEED_READ_BYTES, offsetBytes + lengthBytes - from);
      const pieces = await this.#pieces(from, length);
      const plain = this.#load(pieces);
      for (const { digest, startBytes, lengthBytes: pieceBytes } of pieces) {
        const chunk = digest === undefined ? undefined : await plain.get(digest);
        chunk?.copy(result, at, startBytes, startBytes + pieceBytes);
        at += pieceBytes;
      }
    }
    return result;
  }

  /** Names a range by content, without reading it. */
  async names(offsetBytes: number, lengthBytes: number): Promise<readonly NamedPiece[]> {
    return await this.#pieces(offsetBytes, lengthBytes);
  }

  async #pieces(offsetBytes: number, lengthBytes: number): Promise<Piece[]> {
    const end = offsetBytes + lengthBytes;
    if (!(offsetBytes >= 0 && lengthBytes >= 0 && end <= this.sizeBytes)) {
      throw new IngotError(
        'source-truncated',
        `bytes ${offsetBytes} to ${end} are outside ${this.#feed.name} of ${this.sizeBytes} bytes`,
      );
    }
    this.#signal?.throwIfAborted();
    const pieces: Piece[] = [];
    let at = offsetBytes;
    let pageIndex = lastAtMost(this.#feed.pages, at, (page) => page.plainStartBytes);
    while (at < end) {
      const { entries, offsets } = await this.#page(pageIndex);
      let index = lastAtMost(offsets, at, (offset) => offset);
      for (; index < entries.length && at < end; index++) {
        const entry = entries[index];
        const entryStart = offsets[index];
        if (entry === undefined || entryStart === undefined) break;
        const startBytes = at - entryStart;
        const pieceBytes = Math.min(entry.lengthBytes - startBytes, end - at);
        const chunk = entry.kind === 'chunk' ? entry : undefined;
        pieces.push({ chunk, digest: chunk?.digest, startBytes, lengthBytes: pieceBytes });
        at += pieceBytes;
      }
      pageIndex += 1;
    }
    return pieces;
  }

  /** Starts reading what is not kept; all chunks of one call are asked for at once. */
  #load(pieces: readonly Piece[]): Map<Digest, Promise<Buffer>> {
    const found = new Map<Digest, Promise<Buffer>>();
    const missing: FeedChunk[] = [];
    for (const { chunk } of pieces) {
      if (chunk === undefined || found.has(chunk.digest)) continue;
      const kept = this.#kept.get(chunk.digest);
      if (kept === undefined) {
        missing.push(chunk);
      } else {
        this.#kept.delete(chunk.digest);
        this.#kept.set(chunk.digest, kept);
        found.set(chunk.digest, kept.plain);
      }
    }
    for (const group of inGroups(missing)) {
      const reading = this.#chunks.read(group, this.#signal);
      for (const [index, chunk] of group.entries()) {
        const plain = reading.then((buffers) => buffers[index] ?? Buffer.alloc(0));
        this.#keep(chunk, plain);
        found.set(chunk.digest, plain);
      }
    }
    return found;
  }

  #keep({ digest, lengthBytes }: FeedChunk, plain: Promise<Buffer>): void {
    if (this.#kept.has(digest)) return;
    this.#kept.set(digest, { plain, lengthBytes });
    this.#keptBytes += lengthBytes;
    // Whoever copies from it hears of a failure; it must not stay for the next call.
    plain.catch(() => this.#forget(digest));
    for (const oldest of this.#kept.keys()) {
      if (this.#keptBytes <= CACHE_BYTES) break;
      this.#forget(oldest);
    }
  }

  #forget(digest: Digest): void {
    this.#keptBytes -= this.#kept.get(digest)?.lengthBytes ?? 0;
    this.#kept.delete(digest);
  }

  #page(index: number): Promise<Page> {
    const known = this.#pages.get(index);
    this.#pages.delete(index);
    const page = known ?? this.#readPage(index);
    this.#pages.set(index, page);
    if (known === undefined) page.catch(() => this.#pages.delete(index));
    for (const oldest of this.#pages.keys()) {
      if (this.#pages.size <= CACHED_PAGES) break;
      this.#pages.delete(oldest);
    }
    return page;
  }

  async #readPage(index: number): Promise<Page> {
    const facts = this.#feed.pages[index];
    const entries = facts === undefined ? [] : await this.#feed.page(index);
    const offsets: number[] = [];
    let at = facts?.plainStartBytes ?? 0;
    for (const { lengthBytes } of entries) {
      offsets.push(at);
      at += lengthBytes;
    }
    if (facts === undefined || at !== facts.plainStartBytes + facts.plainBytes) {
      throw new IngotError('manifest-invalid', `page ${index} of ${this.#feed.name} is not whole`);
    }
    return { entries, offsets };
  }
}

/** @returns index of the last item whose start is at most `at`; the starts ascend from `at` or less */
function lastAtMost<T>(items: readonly T[], at: number, startOf: (item: T) => number): number {
  let low = 0;
  let high = items.length - 1;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    const item = items[middle];
    if (item !== undefined && startOf(item) <= at) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** Divides chunks into groups that one call of a feed may ask for. */
function* inGroups(chunks: readonly FeedChunk[]): Generator<FeedChunk[], void, undefined> {
  let group: FeedChunk[] = [];
  let groupBytes = 0;
  for (const chunk of chunks) {
    if (groupBytes + chunk.lengthBytes > MAX_FEED_READ_BYTES) {
      yield group;
      group = [];
      groupBytes = 0;
    }
    group.push(chunk);
    groupBytes += chunk.lengthBytes;
  }
  if (group.length > 0) yield group;
}
