import { IngotError, isFailure } from '../../base/index.ts';
import type { SegmentCodec } from '../../keep/index.ts';
import type { FeedChunk, RestoreFeed } from './restore-feed.ts';
import { threadedDigest } from './threaded-digest.ts';

/** Decodes the chunks of a feed and checks each against its name: what leaves here is right. */
export class PlainChunks {
  readonly #feed: RestoreFeed;
  readonly #codec: SegmentCodec;

  constructor(feed: RestoreFeed, codec: SegmentCodec) {
    this.#feed = feed;
    this.#codec = codec;
  }

  /**
   * Reads chunks as plain bytes, all cores at work.
   *
   * @param chunks at most `MAX_FEED_READ_BYTES` plain bytes together
   * @returns one buffer per chunk, in the order asked
   * @throws IngotError `chunk-corrupt` when the bytes are not those of the digest; what the feed throws
   */
  async read(chunks: readonly FeedChunk[], signal?: AbortSignal): Promise<Buffer<ArrayBuffer>[]> {
    if (chunks.length === 0) return [];
    const segments = await this.#feed.readCoded(chunks, signal);
    return await Promise.all(
      chunks.map(async (chunk, index) => {
        const coded = segments[index];
        if (coded === undefined) {
          throw new IngotError('chunk-missing', `${this.#feed.name} gave no chunk ${chunk.digest}`);
        }
        const plain = await this.#decode(chunk, coded);
        if ((await threadedDigest(plain)) !== chunk.digest) throw this.#corrupt(chunk);
        return plain;
      }),
    );
  }

  async #decode(chunk: FeedChunk, coded: Uint8Array): Promise<Buffer<ArrayBuffer>> {
    try {
      return (await this.#codec.decode(coded, chunk.lengthBytes)) as Buffer<ArrayBuffer>;
    } catch (thrown) {
      if (!isFailure(thrown, 'segment-malformed')) throw thrown;
      throw this.#corrupt(chunk, thrown);
    }
  }

  #corrupt(chunk: FeedChunk, cause?: unknown): IngotError {
    return new IngotError(
      'chunk-corrupt',
      `chunk ${chunk.digest} of ${this.#feed.name} does not have the bytes of its name`,
      { digest: chunk.digest, image: this.#feed.name },
      cause === undefined ? undefined : { cause },
    );
  }
}
