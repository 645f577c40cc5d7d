import { digestOf, IngotError, isFailure } from '../../base/index.ts';
import type { SegmentCodec } from '../../keep/index.ts';
import type { FeedChunk, RestoreFeed } from './restore-feed.ts';

/** Decodes the chunks of a feed and checks each against its name: what leaves here is right. */
export class PlainChunks {
  readonly #feed: RestoreFeed;
  readonly #codec: SegmentCodec;

  constructor(feed: RestoreFeed, codec: SegmentCodec) {
    this.#feed = feed;
    this.#codec = codec;
  }

  /**
   * Reads chunks as plain bytes.
   *
   * @param chunks at most `MAX_FEED_READ_BYTES` plain bytes together
   * @returns one buffer per chunk, in the order asked
   * @throws IngotError `chunk-corrupt` when the bytes are not those of the digest; what the feed throws
   */
  async read(chunks: readonly FeedChunk[], signal?: AbortSignal): Promise<Buffer[]> {
    if (chunks.length === 0) return [];
    const coded = await this.#feed.readCoded(chunks, signal);
    try {
      return await Promise.all(chunks.map((chunk, i) => this.#decode(chunk, coded[i])));
    } finally {
      this.#feed.giveBack(coded);
    }
  }

  async #decode(chunk: FeedChunk, coded: Uint8Array | undefined): Promise<Buffer> {
    if (coded === undefined) throw chunkMissing(this.#feed, chunk);
    let plain: Buffer;
    try {
      plain = await this.#codec.decode(coded, chunk.lengthBytes);
    } catch (thrown) {
      if (!isFailure(thrown, 'segment-malformed')) throw thrown;
      throw chunkCorrupt(this.#feed, chunk, thrown);
    }
    if (digestOf(plain) !== chunk.digest) throw chunkCorrupt(this.#feed, chunk);
    return plain;
  }
}

/** @returns the failure of a chunk whose bytes are not those of its name */
export function chunkCorrupt(
  feed: RestoreFeed,
  { digest }: FeedChunk,
  cause?: unknown,
): IngotError {
  return new IngotError(
    'chunk-corrupt',
    `chunk ${digest} of ${feed.name} does not have the bytes of its name`,
    { digest, image: feed.name },
    cause === undefined ? undefined : { cause },
  );
}

/** @returns the failure of a chunk that a feed left out */
export function chunkMissing(feed: RestoreFeed, { digest }: FeedChunk): IngotError {
  return new IngotError('chunk-missing', `${feed.name} gave no chunk ${digest}`);
}
