import { digestOf, IngotError, isFailure } from '../../base/index.ts';
import type { SegmentCodec } from '../../keep/index.ts';
import { joinNeighbours } from '../join-buffers.ts';
import type { FeedChunk, RestoreFeed } from './restore-feed.ts';

/** A chunk, and the memory that its plain bytes are to fill. */
export interface WantedChunk {
  readonly chunk: FeedChunk;
  /** Of exactly the chunk's length. */
  readonly room: Buffer;
}

/** A wanted chunk with its coded bytes. */
interface CodedChunk extends WantedChunk {
  readonly coded: Buffer;
}

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
  async read(chunks: readonly FeedChunk[], signal?: AbortSignal): Promise<Buffer<ArrayBuffer>[]> {
    if (chunks.length === 0) return [];
    const wanted = chunks.map((chunk) => ({
      chunk,
      // One for each: who keeps a chunk keeps nothing else alive with it.
      room: Buffer.allocUnsafeSlow(chunk.lengthBytes),
    }));
    await this.readInto(wanted, signal);
    return wanted.map(({ room }) => room);
  }

  /**
   * Reads chunks into memory of the caller. Those whose memory lies side by side are decoded in one
   * call, so that other cores work while this one hashes what is there.
   *
   * @param wanted at most `MAX_FEED_READ_BYTES` plain bytes together; what their memory holds after
   *   a failure is nothing to use
   * @throws IngotError as {@link read}
   */
  async readInto(wanted: readonly WantedChunk[], signal?: AbortSignal): Promise<void> {
    if (wanted.length === 0) return;
    const segments = await this.#feed.readCoded(
      wanted.map(({ chunk }) => chunk),
      signal,
    );
    try {
      const found = wanted.map(({ chunk, room }, i): CodedChunk => {
        const coded = segments[i];
        if (coded !== undefined) {
          return {
            chunk,
            room,
            coded: Buffer.from(coded.buffer, coded.byteOffset, coded.byteLength),
          };
        }
        throw new IngotError('chunk-missing', `${this.#feed.name} gave no chunk ${chunk.digest}`);
      });
      // All of them are waited for: what still works would write into memory of somebody else.
      const ends = await Promise.allSettled([...runsOf(found)].map((run) => this.#decodeRun(run)));
      for (const end of ends) if (end.status === 'rejected') throw end.reason;
    } finally {
      this.#feed.giveBack(segments);
    }
    for (const { chunk, room } of wanted) {
      if (digestOf(room) !== chunk.digest) throw this.#corrupt(chunk);
    }
  }

  async #decodeRun(run: readonly CodedChunk[]): Promise<void> {
    const plain = onePiece(run.map(({ room }) => room));
    try {
      await this.#codec.decodeRun(onePiece(run.map(({ coded }) => coded)), plain);
    } catch (thrown) {
      if (!isFailure(thrown, 'segment-malformed')) throw thrown;
      throw await this.#culprit(run, thrown);
    }
  }

  /** Finds the first chunk of a run that cannot be decoded by itself. */
  async #culprit(run: readonly CodedChunk[], cause: unknown): Promise<unknown> {
    for (const { chunk, coded } of run) {
      try {
        const plain = await this.#codec.decode(coded, chunk.lengthBytes);
        if (digestOf(plain) !== chunk.digest) return this.#corrupt(chunk);
      } catch (thrown) {
        return isFailure(thrown, 'segment-malformed') ? this.#corrupt(chunk, thrown) : thrown;
      }
    }
    return cause;
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

/** Groups chunks whose memory lies side by side. */
function* runsOf(chunks: readonly CodedChunk[]): Generator<CodedChunk[], void, undefined> {
  let run: CodedChunk[] = [];
  for (const next of chunks) {
    const last = run.at(-1)?.room;
    const follows =
      last?.buffer === next.room.buffer &&
      last.byteOffset + last.byteLength === next.room.byteOffset;
    if (!follows && run.length > 0) {
      yield run;
      run = [];
    }
    run.push(next);
  }
  if (run.length > 0) yield run;
}

/** Joins buffers; a copy is made only where they do not lie side by side. */
function onePiece(buffers: readonly Buffer[]): Buffer {
  const pieces = [...joinNeighbours(buffers)];
  const [only] = pieces;
  return pieces.length === 1 && only !== undefined ? only : Buffer.concat(pieces);
}
