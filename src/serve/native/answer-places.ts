import type { ServerResponse } from 'node:http';
import { type Clock, IngotError } from '../../base/index.ts';
import { Sender } from './sender.ts';
import { STALL_MS } from './stall-guard.ts';
import { Turnstile } from './turnstile.ts';

/** Answers that are made or sent at once, for all callers together; each has up to 4 MiB. */
const QUICK_ANSWERS = 8;
/** Answers whose readers are slow, beside those: 100 MB at most. */
const SLOW_ANSWERS = 24;
/** Of these for one client: the others are left to the slow readers of other clients. */
const SLOW_PER_CLIENT = 16;
/** A full answer goes out within it at 40 Mbit/s. */
const PATIENCE_MS = 1000;
/** A slow reader that took nothing for so long makes room when others need it. */
const SILENT_MS = 10_000;
/** How long somebody who was refused is taken to want a place still. */
const WANTED_MS = 5000;
/** Requests that wait for a quick place; each has a list of up to 8 KiB. */
const MAX_WAITING = 512;
/** The longest wait for a quick place: far below what a client waits for an answer. */
const MAX_WAIT_MS = 30_000;
/** When to come back: answers end all the time. */
const RETRY_AFTER_SECONDS = 2;
/** Taken in two minutes, a piece is a line of 9 kbit/s: what is slower stands still. */
const PIECE_BYTES = 128 * 1024;

const ENDED = new Error('the answer has ended');

/** Who an answer goes to. */
export interface AnswerReader {
  /** Whose client it is. */
  readonly clientId: string;
  /** Connections are remembered as slow, not clients: many machines may use one client. */
  readonly connection: object;
  /** Aborts when the reader went away. */
  readonly gone: AbortSignal;
}

/** Places of answers whose readers are slow, a share of them for each client. */
class SlowPlaces {
  readonly #clock: Clock;
  readonly #held = new Map<string, number>();
  #count = 0;
  #refusal: { readonly at: number; readonly clientId: string | undefined } | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  tryEnter(clientId: string): Disposable | undefined {
    const own = this.#held.get(clientId) ?? 0;
    const isFull = this.#count >= SLOW_ANSWERS;
    if (isFull || own >= SLOW_PER_CLIENT) {
      this.#refusal = { at: this.#clock.monotonic(), clientId: isFull ? undefined : clientId };
      return undefined;
    }
    this.#count += 1;
    this.#held.set(clientId, own + 1);
    return { [Symbol.dispose]: () => this.#leave(clientId) };
  }

  /** Whether somebody was refused just now who could have this client's place. */
  isWanted(clientId: string): boolean {
    if (this.#refusal === undefined) return false;
    const { at, clientId: whose } = this.#refusal;
    return this.#clock.monotonic() - at < WANTED_MS && (whose === undefined || whose === clientId);
  }

  #leave(clientId: string): void {
    const left = (this.#held.get(clientId) ?? 1) - 1;
    this.#count -= 1;
    if (left === 0) this.#held.delete(clientId);
    else this.#held.set(clientId, left);
  }
}

/**
 * Bounds the memory of answers from their making until the system has taken their last byte.
 *
 * - An answer that is not sent within a second goes on in a slow place and gives its quick one to
 *   others. While no slow place is free it keeps its quick one, but not for longer than two seconds
 *   when others wait for it.
 * - A connection that was slow gets slow places from then on, until it is quick again. Is none free,
 *   its request is refused.
 * - A reader that takes nothing for two minutes is given up; in a slow place that others ask for, one
 *   that takes nothing for ten seconds.
 */
export class AnswerPlaces {
  readonly #clock: Clock;
  readonly #onCount: (count: number) => void;
  readonly #quick = new Turnstile(QUICK_ANSWERS);
  readonly #slow: SlowPlaces;
  readonly #slowConnections = new WeakSet<object>();
  #count = 0;

  /** @param onCount told how many answers there are, when that changes */
  constructor(clock: Clock, onCount: (count: number) => void) {
    this.#clock = clock;
    this.#onCount = onCount;
    this.#slow = new SlowPlaces(clock);
  }

  /**
   * Waits for a place. Dispose it when the answer has ended, however it did.
   *
   * @throws IngotError `too-many-requests` with `retryAfterSeconds`; the reader's reason when it went
   *   away meanwhile
   */
  async enter(reader: AnswerReader): Promise<AnswerPlace> {
    const isSlow = this.#slowConnections.has(reader.connection);
    const room = isSlow
      ? this.#slow.tryEnter(reader.clientId)
      : await this.#enterQuick(reader.gone);
    if (room === undefined) throw tooMany('too many readers are slow');
    this.#changeCount(1);
    return new AnswerPlace(room, {
      clock: this.#clock,
      reader,
      isSlow,
      slow: this.#slow,
      quick: this.#quick,
      noteSpeed: (isNowSlow) => {
        if (isNowSlow) this.#slowConnections.add(reader.connection);
        else this.#slowConnections.delete(reader.connection);
      },
      onLeave: () => this.#changeCount(-1),
    });
  }

  async #enterQuick(gone: AbortSignal): Promise<Disposable> {
    const free = this.#quick.tryEnter();
    if (free !== undefined) return free;
    if (this.#quick.waitingCount >= MAX_WAITING) throw tooMany('too many requests wait');
    const entered = new AbortController();
    const late = new AbortController();
    this.#clock.sleep(MAX_WAIT_MS, entered.signal).then(
      () => late.abort(tooMany(`the request waited for ${MAX_WAIT_MS} ms`)),
      () => undefined,
    );
    try {
      return await this.#quick.enter(AbortSignal.any([gone, late.signal]));
    } finally {
      entered.abort(ENDED);
    }
  }

  #changeCount(by: number): void {
    this.#count += by;
    this.#onCount(this.#count);
  }
}

/** What a place knows of the others. */
interface PlaceContext {
  readonly clock: Clock;
  readonly reader: AnswerReader;
  readonly isSlow: boolean;
  readonly slow: SlowPlaces;
  readonly quick: Turnstile;
  readonly noteSpeed: (isSlow: boolean) => void;
  readonly onLeave: () => void;
}

/** Room for one answer. */
export class AnswerPlace implements Disposable {
  readonly #context: PlaceContext;
  #room: Disposable | undefined;
  #isSlow: boolean;
  /** Since when the reader has taken nothing. */
  #silentSince = 0;

  /** @param room given back when it moves or leaves */
  constructor(room: Disposable, context: PlaceContext) {
    this.#room = room;
    this.#context = context;
    this.#isSlow = context.isSlow;
  }

  /**
   * Sends bytes; at its end the system has taken them all. After a failure nobody may use their
   * memory again, since the system may still read it.
   *
   * @throws IngotError `target-closed` when the reader went away or was given up: its connection is
   *   then of no use
   */
  async send(response: Pick<ServerResponse, 'write'>, bytes: Uint8Array): Promise<void> {
    const { clock, noteSpeed, reader } = this.#context;
    const startedAt = clock.monotonic();
    const ended = new AbortController();
    const broken = new AbortController();
    const onGone = (): void => broken.abort(reader.gone.reason);
    reader.gone.addEventListener('abort', onGone, { once: true });
    if (reader.gone.aborted) onGone();
    const watching = this.#watch(ended.signal, (reason) => broken.abort(reason));
    try {
      const sender = new Sender(response, broken.signal);
      for (let at = 0; at < bytes.byteLength; at += PIECE_BYTES) {
        this.#silentSince = clock.monotonic();
        await sender.send(bytes.subarray(at, at + PIECE_BYTES));
      }
      if (clock.monotonic() - startedAt < PATIENCE_MS) noteSpeed(false);
    } finally {
      // A reason of its own spares the stack of a new one for every answer.
      ended.abort(ENDED);
      reader.gone.removeEventListener('abort', onGone);
      await watching;
    }
  }

  [Symbol.dispose](): void {
    if (this.#room === undefined) return;
    this.#room[Symbol.dispose]();
    this.#room = undefined;
    this.#context.onLeave();
  }

  /** @param signal aborts when the answer has ended */
  async #watch(signal: AbortSignal, giveUp: (reason: IngotError) => void): Promise<void> {
    const { clock, noteSpeed } = this.#context;
    this.#silentSince = clock.monotonic();
    for (let seconds = 1; ; seconds++) {
      try {
        await clock.sleep(PATIENCE_MS, signal);
      } catch {
        return;
      }
      noteSpeed(true);
      const reason = this.#reasonToEnd(seconds);
      if (reason === undefined) continue;
      giveUp(new IngotError('target-closed', reason));
      return;
    }
  }

  #reasonToEnd(seconds: number): string | undefined {
    const { clock, reader, slow, quick } = this.#context;
    const silentMs = clock.monotonic() - this.#silentSince;
    if (silentMs >= STALL_MS) return `the reader took nothing for ${STALL_MS} ms`;
    if (this.#isSlow) {
      const isInTheWay = silentMs >= SILENT_MS && slow.isWanted(reader.clientId);
      return isInTheWay ? `others need the place, and the reader took nothing` : undefined;
    }
    if (this.#moveToSlow()) return undefined;
    // In the second between, silent readers make room.
    return seconds > 1 && quick.waitingCount > 0 ? 'too many readers are slow' : undefined;
  }

  #moveToSlow(): boolean {
    const room = this.#context.slow.tryEnter(this.#context.reader.clientId);
    if (room === undefined) return false;
    this.#room?.[Symbol.dispose]();
    this.#room = room;
    this.#isSlow = true;
    return true;
  }
}

function tooMany(why: string): IngotError {
  return new IngotError('too-many-requests', `${why}; wait ${RETRY_AFTER_SECONDS} s`, {
    retryAfterSeconds: RETRY_AFTER_SECONDS,
  });
}
