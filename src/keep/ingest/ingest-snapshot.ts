import { type Clock, digestFromBytes, type OnProgress } from '../../base/index.ts';
import { ChunkCutter, type ChunkRule, type Cut, totalBytes } from '../../bytes/index.ts';
import { readLivePasses, type SnapshotPass, type SnapshotSource } from '../../capture/index.ts';
import {
  type ChunkWorkers,
  LENT_BYTES,
  type NamedSpan,
  type Span,
} from '../chunks/chunk-workers.ts';
import type { Image, ImageDescription } from '../library/image.ts';
import { Delivery } from './delivery.ts';
import { DigestSet } from './digest-set.ts';
import { EntryLog } from './entry-log.ts';
import type { IngestSession, IngestTarget } from './ingest-session.ts';
import { KeptChunks } from './kept-chunks.ts';
import { KnownNames } from './known-names.ts';
import { CARRY_BYTES, readWindows } from './read-windows.ts';
import type { OpenSpool } from './spool.ts';
import { Window } from './window.ts';

/** What {@link ingestSnapshot} works with. */
export interface IngestOptions {
  readonly source: SnapshotSource;
  readonly target: IngestTarget;
  readonly workers: ChunkWorkers;
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
  /** What earlier passes named; undefined where there is only one. */
  readonly known: KnownNames | undefined;
}

/** Where the cuts of one pass go. */
interface PassSink {
  /** Chunks that were not given before. Holds the window as long as it needs it. */
  readonly add: (window: Window, chunks: readonly NamedSpan[]) => Promise<void>;
  /** All bytes of the pass are in memory; some are not named yet. */
  readonly whenRead?: () => Promise<void>;
  /** The manifest of the pass; a live pass needs none. */
  readonly entries?: EntryLog;
}

/**
 * Takes a snapshot into the library.
 *
 * A source that may change is read live first, up to three times, until little changes; then it is
 * frozen, cut anew and read again, and only chunks that are new are put by, plain, until it has
 * thawed. Only what changed is hashed again, so the freeze lasts one read. Other sources are read once. Chunks are named by
 * the bytes that are stored, never by a later read.
 *
 * Holds about 60 MB whatever the size, and what its threads take. When it throws, the session is aborted and the source thawed.
 *
 * @throws IngotError what the source and the target throw; the signal's reason
 */
export async function ingestSnapshot(options: IngestOptions): Promise<Image> {
  const { source, target, workers, description, signal } = options;
  signal.throwIfAborted();
  const session = await target.begin(description);
  await using undo = new AsyncDisposableStack();
  undo.defer(() => session.abort());
  const room = undo.use(await workers.lend(LENT_BYTES));
  const delivery = new Delivery(session, { workers, signal, room: room.bytes });
  undo.defer(() => delivery.settle());
  const ingest = {
    options,
    delivery,
    given: new DigestSet(MAX_GIVEN_DIGESTS),
    known: source.mayChange ? new KnownNames() : undefined,
  };
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
        add: (window, chunks) => delivery.add(window, chunks),
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
      add: async ({ bytes }, chunks) => {
        for (const { digest, startBytes, lengthBytes } of chunks) {
          keptBytes += lengthBytes;
          await kept.add(digest, bytes.subarray(startBytes, startBytes + lengthBytes));
        }
      },
      // What is still to be named lies in memory: nobody needs to wait for that.
      whenRead: () => pass.end(),
      entries,
    });
  };
  const rule = await readIt();
  await deliverKept(ingest, kept, keptBytes);
  return rule;
}

/** Delivers what was put by, window by window. */
async function deliverKept(ingest: Ingest, kept: KeptChunks, keptBytes: number): Promise<void> {
  const { workers, onProgress } = ingest.options;
  let doneBytes = 0;
  let window: Window | undefined;
  let chunks: NamedSpan[] = [];
  let startBytes = 0;
  const deliver = async (): Promise<void> => {
    if (window !== undefined) await ingest.delivery.add(window, chunks);
    window?.release();
    window = undefined;
    chunks = [];
    startBytes = 0;
  };
  try {
    for await (const { digest, plain } of kept.drain()) {
      const lengthBytes = plain.byteLength;
      if (startBytes + lengthBytes > LENT_BYTES) await deliver();
      window ??= new Window(await workers.lend(LENT_BYTES));
      plain.copy(window.bytes, startBytes);
      chunks.push({ digest, startBytes, lengthBytes });
      startBytes += lengthBytes;
      doneBytes += lengthBytes;
      onProgress({ doneBytes, totalBytes: keptBytes, stage: 'storing what changed' });
    }
    await deliver();
  } finally {
    window?.release();
  }
}

/** Reads a source that does not change, delivering behind the read. */
async function readOnce(ingest: Ingest, entries: EntryLog): Promise<ChunkRule> {
  const { delivery } = ingest;
  const pass = await ingest.options.source.pass('frozen');
  let rule: ChunkRule;
  try {
    rule = await readPass(ingest, pass, 'reading the source', {
      add: (window, chunks) => delivery.add(window, chunks),
      entries,
    });
  } catch (thrown) {
    // A file that was cut has also changed: what the read met says more, and the end only tells that.
    await pass.end().catch(() => undefined);
    throw thrown;
  }
  await pass.end();
  return rule;
}

/** Reads, cuts and hashes one pass; each chunk goes to the sink once. */
async function readPass(
  ingest: Ingest,
  pass: SnapshotPass,
  stage: string,
  sink: PassSink,
): Promise<ChunkRule> {
  const { onProgress, signal, source, workers } = ingest.options;
  const { extents, fileExtents, originBytes } = pass;
  const cutter = new ChunkCutter({
    sizeBytes: source.sizeBytes,
    extents,
    fileExtents,
    originBytes,
  });
  await using named = new NamedInOrder(ingest, sink);
  const carried = Buffer.allocUnsafeSlow(CARRY_BYTES);
  const allBytes = totalBytes(extents);
  let doneBytes = 0;
  for await (const { window, startBytes, parts } of readWindows(pass, extents, ingest.options)) {
    try {
      cutter.carryInto(window.bytes.subarray(0, startBytes));
      const cuts: Cut[] = [];
      for (const part of parts) {
        cuts.push(...cutter.push(part));
        doneBytes += part.byteLength;
      }
      cutter.carryInto(carried);
      named.push(window, cuts);
    } finally {
      window.release();
    }
    named.throwFailure();
    // Nothing is said while something is frozen: the words may end in a log file on it, and whoever
    // writes there waits.
    if (pass.freeze === undefined) onProgress({ doneBytes, totalBytes: allBytes, stage });
  }
  await sink.whenRead?.();
  const last = new Window(await workers.lend(CARRY_BYTES));
  try {
    cutter.carryInto(last.bytes);
    named.push(last, [...cutter.finish()]);
  } finally {
    last.release();
  }
  signal.throwIfAborted();
  await named.end();
  return cutter.rule;
}

/** A cut, where it lies on the disk, and its name where an earlier pass gave it one. */
interface PlacedCut {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  /** Undefined for a hole. */
  readonly span: Span | undefined;
  readonly mark: Buffer | undefined;
  readonly name: Buffer | undefined;
}

/** Names cuts on the workers, and takes them from there in disk order. */
class NamedInOrder implements AsyncDisposable {
  readonly #ingest: Ingest;
  readonly #sink: PassSink;
  #offsetBytes = 0;
  #last: Promise<void> = Promise.resolve();
  #failure: { readonly thrown: unknown } | undefined;

  constructor(ingest: Ingest, sink: PassSink) {
    this.#ingest = ingest;
    this.#sink = sink;
    ingest.known?.beginPass();
  }

  /** Holds the window until its chunks have gone on. */
  push(window: Window, cuts: readonly Cut[]): void {
    window.hold();
    const placed = cuts.map((cut) => this.#place(window, cut));
    const unnamed = placed.flatMap(({ span, name }) =>
      span === undefined || name !== undefined ? [] : [span],
    );
    const digests = this.#ingest.options.workers.digests(window.bytes, unnamed);
    digests.catch(() => undefined);
    const before = this.#last;
    this.#last = (async () => {
      try {
        await before;
        if (this.#failure === undefined) await this.#take(window, placed, await digests);
      } catch (thrown) {
        this.#failure ??= { thrown };
      } finally {
        await digests.catch(() => undefined);
        window.release();
      }
    })();
  }

  /** Throws what went wrong so far. */
  throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.thrown;
  }

  /** Waits until everything has gone on. */
  async end(): Promise<void> {
    await this.#last;
    this.throwFailure();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#last;
  }

  #place(window: Window, cut: Cut): PlacedCut {
    const offsetBytes = this.#offsetBytes;
    const { lengthBytes } = cut;
    this.#offsetBytes += lengthBytes;
    if (cut.kind === 'hole') {
      return { offsetBytes, lengthBytes, span: undefined, mark: undefined, name: undefined };
    }
    const { known } = this.#ingest;
    const mark = known?.markOf(cut.plain);
    return {
      offsetBytes,
      lengthBytes,
      span: spanOf(window, cut.plain),
      mark,
      name: mark === undefined ? undefined : known?.nameOf(offsetBytes, mark),
    };
  }

  async #take(window: Window, placed: readonly PlacedCut[], digests: Buffer): Promise<void> {
    const { entries, add } = this.#sink;
    const { known, given } = this.#ingest;
    const fresh: NamedSpan[] = [];
    let next = 0;
    for (const { offsetBytes, lengthBytes, span, mark, name } of placed) {
      if (span === undefined) {
        await entries?.add(lengthBytes, undefined);
        continue;
      }
      const digest = name ?? digests.subarray(next * 32, next * 32 + 32);
      if (name === undefined) next += 1;
      if (mark !== undefined) known?.remember(offsetBytes, mark, digest);
      await entries?.add(lengthBytes, digest);
      if (given.add(digest)) {
        fresh.push({ ...span, digest: digestFromBytes(digest) });
      }
    }
    if (fresh.length > 0) await add(window, fresh);
  }
}

/** Where a cut lies in the window: what was carried over lies in it too. */
function spanOf(window: Window, plain: Buffer): Span {
  const startBytes = plain.byteOffset - window.bytes.byteOffset;
  if (plain.buffer !== window.bytes.buffer || startBytes < 0) {
    throw new Error('a cut lies outside its window');
  }
  return { startBytes, lengthBytes: plain.byteLength };
}
