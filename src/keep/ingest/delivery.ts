import type { ChunkWorkers, NamedSpan } from '../chunks/chunk-workers.ts';
import type { IngestSession } from './ingest-session.ts';
import type { Window } from './window.ts';

/** What one `have` takes. */
const MAX_BATCH_CHUNKS = 4096;

/** Batches under way: one asked for, one being coded, two being delivered. */
const BATCHES_AT_ONCE = 4;

/** While one is checked by the library, the next is on its way there. */
const PUTS_AT_ONCE = 2;

/** The order of puts: one begins when the one before it has begun. */
interface Turn {
  readonly before: Promise<void>;
  readonly begin: () => void;
}

/**
 * Delivers chunks to a session: asks which ones it lacks, has those coded, puts them in the order in
 * which they came, so that an image lies in the library as it lies on the disk.
 *
 * Holds the windows of a few batches; `add` waits when there are more.
 */
export class Delivery {
  readonly #session: IngestSession;
  readonly #workers: ChunkWorkers;
  readonly #signal: AbortSignal;
  readonly #underWay = new Set<Promise<void>>();
  /** Settles when the last batch so far has begun to be delivered, or needs no delivery. */
  #lastBegun: Promise<void> = Promise.resolve();
  /** Each settles when its put is over. */
  readonly #puts: Promise<void>[] = [];
  #failure: { readonly thrown: unknown } | undefined;
  #deliveredBytes = 0;

  constructor(session: IngestSession, workers: ChunkWorkers, signal: AbortSignal) {
    this.#session = session;
    this.#workers = workers;
    this.#signal = signal;
  }

  /** Plain bytes that the session lacked so far. */
  get deliveredBytes(): number {
    return this.#deliveredBytes;
  }

  /**
   * Takes chunks of a window, which it holds as long as it needs it. Whatever went wrong with
   * earlier ones is thrown here, or by `flush`.
   */
  async add(window: Window, chunks: readonly NamedSpan[]): Promise<void> {
    for (let at = 0; at < chunks.length; at += MAX_BATCH_CHUNKS) {
      await this.#send(window, chunks.slice(at, at + MAX_BATCH_CHUNKS));
    }
  }

  /** Waits until everything is delivered. */
  async flush(): Promise<void> {
    await Promise.all(this.#underWay);
    this.#throwFailure();
  }

  /** Waits until no call to the session is under way, whatever came of them. Never throws. */
  async settle(): Promise<void> {
    await Promise.all(this.#underWay);
  }

  async #send(window: Window, batch: readonly NamedSpan[]): Promise<void> {
    this.#signal.throwIfAborted();
    while (this.#underWay.size >= BATCHES_AT_ONCE) await Promise.race(this.#underWay);
    this.#throwFailure();
    const before = this.#lastBegun;
    const begun = Promise.withResolvers<void>();
    this.#lastBegun = begun.promise;
    window.hold();
    const job = this.#deliver(window, batch, { before, begin: begun.resolve })
      .catch((thrown: unknown) => {
        this.#failure ??= { thrown };
      })
      .finally(() => {
        begun.resolve();
        window.release();
      });
    this.#underWay.add(job);
    void job.then(() => this.#underWay.delete(job));
  }

  async #deliver(window: Window, batch: readonly NamedSpan[], turn: Turn): Promise<void> {
    const known = await this.#session.have(batch.map((chunk) => chunk.digest));
    const lacking = batch.filter((_, i) => known[i] !== true);
    if (lacking.length > 0) await this.#put(window, lacking, turn);
    await turn.before;
  }

  async #put(window: Window, lacking: readonly NamedSpan[], turn: Turn): Promise<void> {
    using coded = await this.#workers.encode(window.bytes, lacking);
    await turn.before;
    if (this.#puts.length >= PUTS_AT_ONCE) await this.#puts.shift();
    if (this.#failure !== undefined || this.#signal.aborted) return;
    const put = this.#session.put(coded.segments);
    this.#puts.push(put.catch(() => undefined));
    turn.begin();
    await put;
    for (const { plainBytes } of coded.segments) this.#deliveredBytes += plainBytes;
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.thrown;
  }
}
