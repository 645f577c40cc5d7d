import type { Digest } from '../../base/index.ts';

/** One chunk of an image: its name, its length, and where the manifest has it. */
export interface FeedChunk {
  readonly kind: 'chunk';
  readonly digest: Digest;
  /** 1 to `MAX_CHUNK_BYTES`. */
  readonly lengthBytes: number;
  readonly pageIndex: number;
  readonly entryIndex: number;
}

/** A run of zeros of an image. */
export interface FeedHole {
  readonly kind: 'hole';
  readonly lengthBytes: number;
}

/** One extent of an image, in disk order. */
export type FeedEntry = FeedChunk | FeedHole;

/** Which part of the disk a manifest page describes. */
export interface FeedPage {
  readonly plainStartBytes: number;
  readonly plainBytes: number;
}

/** Chunks asked for in one call have at most this many plain bytes together. */
export const MAX_FEED_READ_BYTES = 4 * 1024 * 1024;

/**
 * An image to restore from or to look into: the library itself, or a daemon behind HTTP.
 *
 * Every implementation passes `test/contracts/restore-feed.ts`, and promises that:
 *
 * - the entries of all pages, in order, cover the whole disk;
 * - memory does not grow with the image;
 * - several calls run at once.
 *
 * What it gives is not trusted: {@link PlainChunks} checks every digest.
 */
export interface RestoreFeed extends AsyncDisposable {
  /** For people: `img-y22uq`. */
  readonly name: string;
  readonly sizeBytes: number;
  /** In disk order, without gaps. */
  readonly pages: readonly FeedPage[];
  /**
   * @param index 0 to `pages.length - 1`
   * @returns the entries of one page in disk order
   * @throws IngotError `manifest-invalid`, `chunk-missing`, `image-not-found`, `daemon-unreachable`
   */
  page(index: number): Promise<readonly FeedEntry[]>;
  /**
   * Reads chunks as segments.
   *
   * @param chunks of one or several pages, at most {@link MAX_FEED_READ_BYTES} plain bytes together
   * @returns one buffer per chunk, in the order asked; they may share memory and must not be written
   * @throws IngotError `chunk-corrupt`, `chunk-missing`, `daemon-unreachable`
   */
  readCoded(chunks: readonly FeedChunk[], signal?: AbortSignal): Promise<readonly Uint8Array[]>;
  /** Takes back what one `readCoded` returned: nobody looks at it any more. */
  giveBack(coded: readonly Uint8Array[]): void;
}
