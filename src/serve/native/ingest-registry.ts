import { type Clock, type Id, IngotError, type Log, newId } from '../../base/index.ts';
import type { Image, IngestSession } from '../../keep/index.ts';
import type { Caller } from './backend.ts';

/** A session that hears nothing for so long is given up. */
const IDLE_MS = 15 * 60_000;
/** A committed session is remembered for so long, for a client that lost the answer. */
const REMEMBER_MS = 10 * 60_000;
const SWEEP_EVERY_MS = 15_000;
const MAX_SESSIONS = 64;
const MAX_SESSIONS_PER_ACCOUNT = 16;

interface Entry {
  readonly id: Id<'ing'>;
  readonly caller: Caller;
  readonly session: IngestSession;
  /** Requests inside; a session in use is never idle. */
  inUse: number;
  touchedAt: number;
  /** A commit that is under way: who asks again meanwhile waits for the same one. */
  committing: Promise<Image> | undefined;
  /** Set once the session has ended by a commit. */
  committed: Image | undefined;
}

/**
 * The ingests that callers have open. They live in memory only: a daemon that restarts knows none
 * of them, and its library takes back what they had stored.
 */
export class IngestRegistry implements AsyncDisposable {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #entries = new Map<Id<'ing'>, Entry>();
  readonly #ended = new AbortController();
  readonly #sweeper: Promise<void>;
  /** Begins that are under way count as sessions, or many at once would pass the limit. */
  #beginning = 0;

  constructor(clock: Clock, log: Log) {
    this.#clock = clock;
    this.#log = log;
    this.#sweeper = this.#sweepAlways();
  }

  /** How many sessions take part in the limit. */
  get size(): number {
    let open = this.#beginning;
    for (const entry of this.#entries.values()) if (entry.committed === undefined) open += 1;
    return open;
  }

  /**
   * Opens a session.
   *
   * @throws IngotError `too-many-requests`, and what `open` throws
   */
  async begin(caller: Caller, open: () => Promise<IngestSession>): Promise<Id<'ing'>> {
    const own = [...this.#entries.values()].filter(
      (entry) => entry.caller.accountId === caller.accountId && entry.committed === undefined,
    );
    if (this.size >= MAX_SESSIONS || own.length >= MAX_SESSIONS_PER_ACCOUNT) {
      throw new IngotError('too-many-requests', `${own.length} uploads of this account are open`);
    }
    this.#beginning += 1;
    try {
      const session = await open();
      if (this.#ended.signal.aborted) {
        await session.abort();
        throw new IngotError('ingest-expired', 'the daemon is ending');
      }
      const id = this.#freeId();
      this.#entries.set(id, {
        id,
        caller,
        session,
        inUse: 0,
        touchedAt: this.#clock.monotonic(),
        committing: undefined,
        committed: undefined,
      });
      return id;
    } finally {
      this.#beginning -= 1;
    }
  }

  /**
   * Works on a session; it cannot expire meanwhile.
   *
   * @throws IngotError `ingest-not-found` (also for another account's), `ingest-expired` when it
   *   was committed already, and what `work` throws
   */
  async use<T>(
    caller: Caller,
    id: Id<'ing'>,
    work: (session: IngestSession) => Promise<T>,
  ): Promise<T> {
    const entry = this.#find(caller, id);
    if (entry.committed !== undefined) {
      throw new IngotError('ingest-expired', `${id} was committed already`);
    }
    return this.#hold(entry, () => work(entry.session));
  }

  /**
   * Commits a session, once: a client that lost the answer asks again and gets the same image.
   *
   * @throws IngotError `ingest-not-found`, and what `commit` throws, which ends the session
   */
  async commit(
    caller: Caller,
    id: Id<'ing'>,
    commit: (session: IngestSession) => Promise<Image>,
  ): Promise<Image> {
    const entry = this.#find(caller, id);
    entry.committing ??= this.#hold(entry, () => commit(entry.session));
    try {
      entry.committed = await entry.committing;
      return entry.committed;
    } catch (thrown) {
      await this.#drop(entry);
      throw thrown;
    }
  }

  /** Gives a session up; one that is gone already is no failure. */
  async abort(caller: Caller, id: Id<'ing'>): Promise<void> {
    const entry = this.#entries.get(id);
    if (entry === undefined || entry.caller.accountId !== caller.accountId) return;
    if (entry.committed === undefined) await this.#drop(entry);
  }

  /** Gives every session up: the daemon ends. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended.abort();
    await this.#sweeper;
    await Promise.all([...this.#entries.values()].map((entry) => this.#drop(entry)));
  }

  #find(caller: Caller, id: Id<'ing'>): Entry {
    const entry = this.#entries.get(id);
    if (entry === undefined || entry.caller.accountId !== caller.accountId) {
      throw new IngotError('ingest-not-found', `no upload session is ${id}`);
    }
    return entry;
  }

  async #hold<T>(entry: Entry, work: () => Promise<T>): Promise<T> {
    entry.inUse += 1;
    try {
      return await work();
    } finally {
      entry.inUse -= 1;
      entry.touchedAt = this.#clock.monotonic();
    }
  }

  #freeId(): Id<'ing'> {
    for (;;) {
      const id = newId('ing');
      if (!this.#entries.has(id)) return id;
    }
  }

  async #drop(entry: Entry): Promise<void> {
    this.#entries.delete(entry.id);
    if (entry.committed !== undefined) return;
    await entry.session.abort().catch((thrown: unknown) => {
      this.#log.error('an upload session could not be given up', {
        ingest: entry.id,
        reason: String(thrown),
      });
    });
  }

  async #sweepAlways(): Promise<void> {
    while (!this.#ended.signal.aborted) {
      try {
        await this.#clock.sleep(SWEEP_EVERY_MS, this.#ended.signal);
      } catch {
        return; // The registry has ended.
      }
      const now = this.#clock.monotonic();
      for (const entry of [...this.#entries.values()]) {
        const limitMs = entry.committed === undefined ? IDLE_MS : REMEMBER_MS;
        if (entry.inUse > 0 || now - entry.touchedAt < limitMs) continue;
        if (entry.committed === undefined) {
          this.#log.warn('an upload session expired', { ingest: entry.id, idleMs: limitMs });
        }
        await this.#drop(entry);
      }
    }
  }
}
