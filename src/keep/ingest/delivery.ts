import { KIB } from '../../base/index.ts';
import {
  type ChunkWorkers,
  LENT_SEGMENTS_AT_ONCE,
  type LentSegments,
  type NamedSpan,
} from '../chunks/chunk-workers.ts';
import type { IngestSession } from './ingest-session.ts';
import type { Window } from './window.ts';

/** What one `have` takes. */
const MAX_BATCH_CHUNKS = 4096;

/** Batches under way; what is gathered needs memory for its segments besides. */
const BATCHES_AT_ONCE = LENT_SEGMENTS_AT_ONCE - 1;

/** While one is checked by the library, the next is on its way there. */
const PUTS_AT_ONCE = 2;

/**
 * Windows that lack less are gathered: a second image lacks a few chunks of each window, and a put
 * for each would cost more than the chunks.
 */
const GATHERED_BYTES = 512 * KIB;

/** The order of puts: one begins when the one before it has begun. */
interface Turn {
  readonly before: Promise<void>;
  readonly begin: () => void;
}

/** In a box: an async function would wait for a bare promise. */
interface BegunPut {
  readonly over: Promise<void>;
}

/** What a {@link Delivery} works with. */
interface DeliveryParts {
  readonly workers: ChunkWorkers;
  readonly signal: AbortSignal;
  readonly room: Buffer;
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
  /** Chunks of several windows, copied to the start of {@link #room}. */
  #gathered: NamedSpan[] = [];
  #gatheredBytes = 0;
  readonly #room: Buffer;
  #failure: { readonly thrown: unknown } | undefined;
  #deliveredBytes = 0;

  /** @param room shared memory of `LENT_BYTES` for as long as it delivers */
  constructor(session: IngestSession, { workers, signal, room }: DeliveryParts) {
    this.#room = room;
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
    await this.#putGathered();
    await Promise.all(this.#puts);
    this.#throwFailure();
  }

  /** Waits until no call to the session is under way, whatever came of them. Never throws. */
  async settle(): Promise<void> {
    await Promise.all(this.#underWay);
    await Promise.all(this.#puts);
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
    const lackingBytes = lacking.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
    if (lackingBytes < GATHERED_BYTES) {
      await turn.before;
      const isFull =
        this.#gatheredBytes + lackingBytes > this.#room.byteLength ||
        this.#gathered.length + lacking.length > MAX_BATCH_CHUNKS;
      if (isFull) await this.#putGathered();
      this.#gather(window, lacking);
      return;
    }
    using coded = await this.#encode(window.bytes, lacking);
    await turn.before;
    await this.#putGathered();
    const { over } = await this.#beginPut(coded);
    turn.begin();
    await over;
  }

  #gather({ bytes }: Window, chunks: readonly NamedSpan[]): void {
    for (const { digest, startBytes, lengthBytes } of chunks) {
      bytes.copy(this.#room, this.#gatheredBytes, startBytes, startBytes + lengthBytes);
      this.#gathered.push({ digest, startBytes: this.#gatheredBytes, lengthBytes });
      this.#gatheredBytes += lengthBytes;
    }
  }

  /** Puts what was gathered. Only whoever has the turn may call it. */
  async #putGathered(): Promise<void> {
    const chunks = this.#gathered;
    if (chunks.length === 0) return;
    this.#gathered = [];
    this.#gatheredBytes = 0;
    using coded = await this.#encode(this.#room, chunks);
    await (await this.#beginPut(coded)).over;
  }

  #encode(bytes: Buffer, chunks: readonly NamedSpan[]): Promise<LentSegments> {
    const isCompared = this.#session.wantsCompared === true;
    return this.#workers.encode(bytes, chunks, { isCompared });
  }

  /** @returns once the put has begun */
  async #beginPut({ segments }: LentSegments): Promise<BegunPut> {
    if (this.#puts.length >= PUTS_AT_ONCE) await this.#puts.shift();
    if (this.#failure !== undefined || this.#signal.aborted) return { over: Promise.resolve() };
    const over = this.#session.put(segments).then(() => {
      for (const { plainBytes } of segments) this.#deliveredBytes += plainBytes;
    });
    this.#puts.push(over.catch(() => undefined));
    return { over };
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.thrown;
  }
}
