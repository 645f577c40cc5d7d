import type { ChunkWorkers, CodedSpan } from '../../keep/index.ts';
import { chunkCorrupt, chunkMissing } from './plain-chunks.ts';
import type { FeedChunk, RestoreFeed } from './restore-feed.ts';

/** A chunk, and where its plain bytes belong in lent memory. */
export interface WantedChunk {
  readonly chunk: FeedChunk;
  readonly startBytes: number;
}

/**
 * Fetches chunks and has the workers decode them to their places, each checked against its name.
 *
 * @param memory lent by the workers; after a failure it holds anything
 * @param wanted at most `MAX_FEED_READ_BYTES` plain bytes together
 * @throws IngotError `chunk-corrupt` when the bytes are not those of the digest; what the feed throws
 */
export async function fillMemory(
  memory: Buffer,
  wanted: readonly WantedChunk[],
  {
    feed,
    workers,
    signal,
  }: {
    readonly feed: RestoreFeed;
    readonly workers: ChunkWorkers;
    readonly signal: AbortSignal | undefined;
  },
): Promise<void> {
  if (wanted.length === 0) return;
  const chunks = wanted.map(({ chunk }) => chunk);
  const answer = await feed.readCoded(chunks, signal);
  try {
    const spans = wanted.map(({ chunk, startBytes }, i): CodedSpan => {
      const coded = answer[i];
      if (coded === undefined) throw chunkMissing(feed, chunk);
      return {
        digest: chunk.digest,
        coded,
        startBytes,
        lengthBytes: chunk.lengthBytes,
      };
    });
    const problems = await workers.decode(memory, spans);
    for (const [i, chunk] of chunks.entries()) {
      const problem = problems[i];
      if (problem !== undefined) throw chunkCorrupt(feed, chunk, new Error(problem));
    }
  } finally {
    feed.giveBack(answer);
  }
}
