import { hash } from 'node:crypto';
import { type Clock, digestFromBytes, type OnProgress } from '../../base/index.ts';
import { ChunkCutter, type ChunkRule, totalBytes } from '../../bytes/index.ts';
import {
  readAhead,
  readLivePasses,
  type SnapshotPass,
  type SnapshotSource,
} from '../../capture/index.ts';
import type { SegmentCodec } from '../chunks/segment-codec.ts';
import type { Image, ImageDescription } from '../library/image.ts';
import { Delivery, type PlainChunk } from './delivery.ts';
import { DigestSet } from './digest-set.ts';
import { EntryLog } from './entry-log.ts';
import type { IngestSession, IngestTarget } from './ingest-session.ts';
import { KeptChunks } from './kept-chunks.ts';
import type { OpenSpool } from './spool.ts';

/** What {@link ingestSnapshot} works with. */
export interface IngestOptions {
  readonly source: SnapshotSource;
  readonly target: IngestTarget;
  readonly codec: SegmentCodec;
  readonly description: ImageDescription;
  readonly onProgress: OnProgress;
  readonly signal: AbortSignal;
  /** On a filesystem that the source does not freeze. */
  readonly openSpool: OpenSpool;
  readonly clock: Clock;
}

/**
 * 48 MB of digests, for about 160 GB of data. That is more than is read and hashed in a freeze;
 * beyond it, chunks are only asked for again.
 */
const MAX_GIVEN_DIGESTS = 2_000_000;

/** One image on its way in: what all passes share. */
interface Ingest {
  readonly options: IngestOptions;
  readonly delivery: Delivery;
  /** Chunks that were given to the session, or put by to be given. */
  readonly given: DigestSet;
}

/** Where the cuts of one pass go. */
interface PassSink {
  /** A chunk that was not given before. */
  readonly add: (chunk: PlainChunk) => Promise<void>;
  /** So many bytes were read, of which chunks may be views. */
  readonly read?: (lengthBytes: number) => Promise<void>;
  /** The manifest of the pass; a live pass needs none. */
  readonly entries?: EntryLog;
}

/**
 * Takes a snapshot into the library.
 *
 * A source that may change is read live first, up to three times, until little changes; then it is
 * frozen, cut anew and read again, and only chunks that are new are put by, plain, until it has
 * thawed. So the freeze lasts one read and hash. Other sources are read once. Chunks are named by
 * the bytes that are stored, never by a later read.
 *
 * Holds about 100 MB whatever the size. When it throws, the session is aborted and the source thawed.
 *
 * @throws IngotError what the source and the target throw; the signal's reason
 */
export async function ingestSnapshot(options: IngestOptions): Promise<Image> {
  const { source, target, codec, description, signal } = options;
  signal.throwIfAborted();
  const session = await target.begin(description);
  await using undo = new AsyncDisposableStack();
  undo.defer(() => session.abort());
  const delivery = new Delivery(session, codec, signal);
  undo.defer(() => delivery.settle());
  const ingest = { options, delivery, given: new DigestSet(MAX_GIVEN_DIGESTS) };
  const entries = undo.use(new EntryLog(options.openSpool));
  if (source.mayChange) await readLive(ingest);
  const rule = source.mayChange
    ? await readFrozen(ingest, entries)
    : await readOnce(ingest, entries);
  return await commit(ingest, session, entries, rule);
}

async function commit(
  { options, delivery }: Ingest,
  session: IngestSession,
  entries: EntryLog,
  rule: ChunkRule,
): Promise<Image> {
  await delivery.flush();
  const { source, onProgress, signal } = options;
  const { sizeBytes } = source;
  onProgress({ doneBytes: sizeBytes, totalBytes: sizeBytes, stage: 'making the image durable' });
  signal.throwIfAborted();
  return await session.commit(entries.entries(), {
    sizeBytes,
    chunkRule: rule,
    capture: source.facts(),
    plainDigest: undefined,
  });
}

/** Delivers most chunks while the source is in use. */
async function readLive(ingest: Ingest): Promise<void> {
  const { delivery, options } = ingest;
  await readLivePasses(options.source, {
    clock: options.clock,
    read: async (pass, turn) => {
      const stage = turn === 1 ? 'reading the live source' : `reading what changed (${turn})`;
      await readPass(ingest, pass, stage, {
        add: (chunk) => delivery.add(chunk),
        read: (lengthBytes) => delivery.read(lengthBytes),
      });
    },
    settle: () => delivery.flush(),
    changedBytes: () => delivery.deliveredBytes,
  });
}

/** Reads the frozen source; what is new is delivered after it has thawed. */
async function readFrozen(ingest: Ingest, entries: EntryLog): Promise<ChunkRule> {
  const { source, openSpool, onProgress } = ingest.options;
  await using kept = new KeptChunks(openSpool);
  let keptBytes = 0;
  const stage = 'reading the frozen source';
  onProgress({ doneBytes: 0, totalBytes: undefined, stage });
  const readIt = async (): Promise<ChunkRule> => {
    await using undo = new AsyncDisposableStack();
    const pass = await source.pass('frozen');
    undo.defer(() => pass.end());
    return await readPass(ingest, pass, stage, {
      add: async ({ digest, plain }) => {
        keptBytes += plain.byteLength;
        await kept.add(digest, plain);
      },
      entries,
    });
  };
  const rule = await readIt();
  let doneBytes = 0;
  for await (const chunk of kept.drain()) {
    await ingest.delivery.add(chunk);
    await ingest.delivery.read(chunk.plain.byteLength);
    doneBytes += chunk.plain.byteLength;
    onProgress({ doneBytes, totalBytes: keptBytes, stage: 'storing what changed' });
  }
  return rule;
}

/** Reads a source that does not change, delivering behind the read. */
async function readOnce(ingest: Ingest, entries: EntryLog): Promise<ChunkRule> {
  const { delivery } = ingest;
  await using undo = new AsyncDisposableStack();
  const pass = await ingest.options.source.pass('frozen');
  undo.defer(() => pass.end());
  return await readPass(ingest, pass, 'reading the source', {
    add: (chunk) => delivery.add(chunk),
    read: (lengthBytes) => delivery.read(lengthBytes),
    entries,
  });
}

/** Reads, cuts and hashes one pass; each chunk goes to the sink once. */
async function readPass(
  { options, given }: Ingest,
  pass: SnapshotPass,
  stage: string,
  sink: PassSink,
): Promise<ChunkRule> {
  const { onProgress, signal, source } = options;
  const { extents, fileExtents, originBytes } = pass;
  const { sizeBytes } = source;
  const cutter = new ChunkCutter({ sizeBytes, extents, fileExtents, originBytes });
  const take = async (cuts: ReturnType<ChunkCutter['push']>): Promise<void> => {
    for (const cut of cuts) {
      if (cut.kind === 'hole') {
        await sink.entries?.add(cut.lengthBytes, undefined);
      } else {
        const digest = hash('sha256', cut.plain, 'buffer');
        await sink.entries?.add(cut.lengthBytes, digest);
        if (given.add(digest)) {
          await sink.add({ digest: digestFromBytes(digest), plain: cut.plain });
        }
      }
    }
  };
  const allBytes = totalBytes(extents);
  let doneBytes = 0;
  for await (const { bytes } of readAhead(pass, extents, { signal })) {
    await take(cutter.push(bytes));
    await sink.read?.(bytes.byteLength);
    doneBytes += bytes.byteLength;
    // Nothing is said while something is frozen: the words may end in a log file on it, and whoever
    // writes there waits.
    if (pass.freeze === undefined) onProgress({ doneBytes, totalBytes: allBytes, stage });
  }
  await take(cutter.finish());
  return cutter.rule;
}
