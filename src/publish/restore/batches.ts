import { IngotError, MIB } from '../../base/index.ts';
import { MAX_CHUNK_BYTES } from '../../bytes/index.ts';
import type { FeedChunk, FeedEntry, RestoreFeed } from './restore-feed.ts';

/** A chunk and where it lies on the disk. */
export interface PlacedChunk {
  readonly chunk: FeedChunk;
  readonly offsetBytes: number;
}

/** Chunks that follow one another without a gap: what is read, compared and written at once. */
export interface DataBatch {
  readonly kind: 'data';
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly chunks: readonly PlacedChunk[];
}

/** A run of zeros. */
export interface HoleBatch {
  readonly kind: 'hole';
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** A part of a disk, in disk order. */
export type Batch = DataBatch | HoleBatch;

/**
 * Chunks of one batch have at most this many plain bytes together. Twice as much, which one call of
 * a feed could give, takes 25 MB more memory and no less time: several are under way.
 */
export const MAX_BATCH_BYTES: number = 2 * MIB;

/** Larger holes are split, so that several parts are looked at at once and progress moves. */
const MAX_HOLE_BYTES = 32 * MIB;

/**
 * Yields the whole disk of an image in batches, in disk order and without gaps.
 *
 * The next page is read while the batches of one are at work.
 *
 * @throws IngotError `manifest-invalid` when the pages do not cover the disk
 */
export async function* batchesOf(feed: RestoreFeed): AsyncGenerator<Batch, void, undefined> {
  let chunks: PlacedChunk[] = [];
  let chunkBytes = 0;
  let holeBytes = 0;
  let offsetBytes = 0;
  const takeData = (): DataBatch => {
    const batch: DataBatch = {
      kind: 'data',
      offsetBytes: offsetBytes - chunkBytes,
      lengthBytes: chunkBytes,
      chunks,
    };
    chunks = [];
    chunkBytes = 0;
    return batch;
  };
  for await (const entry of entriesOf(feed)) {
    if (entry.kind === 'hole') {
      if (chunkBytes > 0) yield takeData();
      holeBytes += entry.lengthBytes;
    } else {
      if (holeBytes > 0) yield* holes(offsetBytes - holeBytes, holeBytes);
      holeBytes = 0;
      if (chunkBytes + entry.lengthBytes > MAX_BATCH_BYTES) yield takeData();
      chunks.push({ chunk: entry, offsetBytes });
      chunkBytes += entry.lengthBytes;
    }
    offsetBytes += entry.lengthBytes;
  }
  if (chunkBytes > 0) yield takeData();
  if (holeBytes > 0) yield* holes(offsetBytes - holeBytes, holeBytes);
  if (offsetBytes !== feed.sizeBytes) {
    throw new IngotError(
      'manifest-invalid',
      `the manifest of ${feed.name} covers ${offsetBytes} of ${feed.sizeBytes} bytes`,
    );
  }
}

function* holes(offsetBytes: number, lengthBytes: number): Generator<HoleBatch> {
  for (let done = 0; done < lengthBytes; done += MAX_HOLE_BYTES) {
    yield {
      kind: 'hole',
      offsetBytes: offsetBytes + done,
      lengthBytes: Math.min(MAX_HOLE_BYTES, lengthBytes - done),
    };
  }
}

async function* entriesOf(feed: RestoreFeed): AsyncGenerator<FeedEntry, void, undefined> {
  let next = feed.pages.length > 0 ? startPage(feed, 0) : undefined;
  for (let index = 0; next !== undefined; index++) {
    const entries = await next;
    next = index + 1 < feed.pages.length ? startPage(feed, index + 1) : undefined;
    let covered = 0;
    for (const entry of entries) {
      checkEntry(feed, entry);
      covered += entry.lengthBytes;
      yield entry;
    }
    const promised = feed.pages[index]?.plainBytes;
    if (covered !== promised) {
      throw new IngotError(
        'manifest-invalid',
        `page ${index} of ${feed.name} covers ${covered} bytes, not ${promised}`,
      );
    }
  }
}

function startPage(feed: RestoreFeed, index: number): Promise<readonly FeedEntry[]> {
  const page = feed.page(index);
  // It is awaited after the page before it; until then its failure is not unhandled.
  page.catch(() => undefined);
  return page;
}

function checkEntry(feed: RestoreFeed, { kind, lengthBytes }: FeedEntry): void {
  const most = kind === 'chunk' ? MAX_CHUNK_BYTES : Number.MAX_SAFE_INTEGER;
  if (!(Number.isSafeInteger(lengthBytes) && lengthBytes > 0 && lengthBytes <= most)) {
    throw new IngotError('manifest-invalid', `a ${kind} of ${feed.name} has ${lengthBytes} bytes`);
  }
}
