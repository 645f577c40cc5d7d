import { IngotError, noProgress, type OnProgress } from '../../base/index.ts';
import { type ChunkWorkers, LENT_AT_ONCE } from '../../keep/index.ts';
import { type Batch, batchesOf } from './batches.ts';
import { type Difference, TargetComparison } from './compare-batch.ts';
import { inOrder } from './in-order.ts';
import type { RestoreFeed } from './restore-feed.ts';
import type { RestoreTarget } from './restore-target.ts';
import { BatchWriter } from './write-batch.ts';

/** Batches that are compared, fetched and decoded at once. */
const BATCHES_AT_ONCE = 4;

/** Batches that are written meanwhile. */
const WRITES_AT_ONCE = 2;

/** What a restore did, in bytes of the disk. */
export interface RestoreReport {
  readonly sizeBytes: number;
  /** Data that was written. */
  readonly writtenBytes: number;
  /** Holes that were made to read as zeros (a new file has them already). */
  readonly zeroedBytes: number;
  /** What the target had already, holes included. */
  readonly keptBytes: number;
  /** What was read back from the medium and compared. */
  readonly verifiedBytes: number;
}

/** How a restore is done. */
export interface RestoreOptions {
  /** They hash and decode; all memory that a restore works in is theirs. */
  readonly workers: ChunkWorkers;
  /** Reads everything back past the cache and compares it. Default: true. */
  readonly verify?: boolean;
  readonly signal?: AbortSignal;
  readonly onProgress?: OnProgress;
}

/**
 * Writes an image to a device or file, and reads it back.
 *
 * What the target has already is left alone, so a restore that broke off goes on where it was when
 * it is called again. A target that needed no write was verified by the comparison itself.
 *
 * @throws IngotError `target-too-small` before anything is written; `chunk-corrupt`,
 *   `manifest-invalid`, `target-full`; `verify-failed` when the medium gave other bytes back
 * @see docs/restore.md
 */
export async function restoreImage(
  feed: RestoreFeed,
  target: RestoreTarget,
  options: RestoreOptions,
): Promise<RestoreReport> {
  refuseSmallTarget(feed, target);
  const { workers, signal, onProgress = noProgress } = options;
  const comparison = new TargetComparison({ target, workers, signal, verifies: false });
  const writer = new BatchWriter(target);
  const prepared = inOrder(
    batchesOf(feed),
    async (batch) => {
      signal?.throwIfAborted();
      const difference = target.isBlank
        ? await comparison.assumeBlank(batch)
        : await comparison.compare(batch);
      await comparison.fill(difference, feed);
      return difference;
    },
    { limit: BATCHES_AT_ONCE, discard: (difference) => comparison.release(difference) },
  );
  let doneBytes = 0;
  const written = inOrder(
    prepared,
    async (difference) => {
      signal?.throwIfAborted();
      try {
        await writer.write(difference);
      } finally {
        comparison.release(difference);
      }
      return difference.batch.lengthBytes;
    },
    { limit: WRITES_AT_ONCE },
  );
  for await (const lengthBytes of written) {
    doneBytes += lengthBytes;
    onProgress({ doneBytes, totalBytes: feed.sizeBytes, stage: 'writing' });
  }
  const { writtenBytes, zeroedBytes } = writer;
  await target.sync();
  const hasChanged = writtenBytes + zeroedBytes > 0 || target.isBlank;
  if (options.verify !== false && hasChanged) await verifyTarget(feed, target, options);
  await target.publish();
  return {
    sizeBytes: feed.sizeBytes,
    writtenBytes,
    zeroedBytes,
    keptBytes: feed.sizeBytes - writtenBytes - zeroedBytes,
    verifiedBytes: options.verify === false ? 0 : feed.sizeBytes,
  };
}

/**
 * Compares a device or file with an image, every chunk and every hole, and writes nothing.
 *
 * @throws IngotError `verify-failed` with how much differs and where the first difference is
 */
export async function verifyTarget(
  feed: RestoreFeed,
  target: RestoreTarget,
  { workers, signal, onProgress = noProgress }: Omit<RestoreOptions, 'verify'>,
): Promise<void> {
  refuseSmallTarget(feed, target);
  const comparison = new TargetComparison({ target, workers, signal, verifies: true });
  const compared = inOrder(
    batchesOf(feed),
    async (batch: Batch) => {
      signal?.throwIfAborted();
      return await comparison.compare(batch);
    },
    // A device with a queue wants more than one read; the workers lend so many buffers.
    { limit: LENT_AT_ONCE, discard: (difference) => comparison.release(difference) },
  );
  let doneBytes = 0;
  let differentBytes = 0;
  let firstOffset: number | undefined;
  for await (const difference of compared) {
    comparison.release(difference);
    differentBytes += bytesOf(difference);
    firstOffset ??= difference.chunks[0]?.offsetBytes ?? difference.zeros[0]?.offsetBytes;
    doneBytes += difference.batch.lengthBytes;
    onProgress({ doneBytes, totalBytes: feed.sizeBytes, stage: 'verifying' });
  }
  if (firstOffset === undefined) return;
  throw new IngotError(
    'verify-failed',
    `${target.facts.path} differs from ${feed.name} in ${differentBytes} bytes, first at byte ${firstOffset}`,
    { path: target.facts.path, differentBytes, firstOffsetBytes: firstOffset },
  );
}

function bytesOf({ chunks, zeros }: Difference): number {
  let total = 0;
  for (const { chunk } of chunks) total += chunk.lengthBytes;
  for (const { lengthBytes } of zeros) total += lengthBytes;
  return total;
}

function refuseSmallTarget(feed: RestoreFeed, { facts }: RestoreTarget): void {
  if (facts.sizeBytes >= feed.sizeBytes) return;
  throw new IngotError(
    'target-too-small',
    `${facts.path} has ${facts.sizeBytes} bytes, ${feed.name} needs ${feed.sizeBytes}`,
    { path: facts.path, targetBytes: facts.sizeBytes, imageBytes: feed.sizeBytes },
  );
}
