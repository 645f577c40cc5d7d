import type { Clock } from '../../base/index.ts';
import { unlessAborted } from './unless-aborted.ts';

/** A daemon that never rests: then work that can wait begins all the same, slowly. */
const MAX_WAIT_MS = 300_000;

/** What traffic asks a clock for: wall time that jumps means nothing here. */
type TrafficClock = Pick<Clock, 'monotonic' | 'sleep'>;

/** Ingests and downloads that go on, for work that can wait. */
export class Traffic {
  readonly #clock: TrafficClock;
  readonly #quietMs: number;
  #running = 0;
  #lastMs: number;
  /** When the last quiet time ended. */
  #busySinceMs: number;
  #next = Promise.withResolvers<void>();

  /**
   * The start of a daemon counts as traffic: those who waited for it come first.
   *
   * @param quietMs how long nobody must have come before it is quiet
   */
  constructor(clock: TrafficClock, quietMs: number) {
    this.#clock = clock;
    this.#quietMs = quietMs;
    this.#lastMs = clock.monotonic();
    this.#busySinceMs = this.#lastMs;
  }

  /** Notes that somebody reads or delivers. */
  touch(): void {
    const wasQuiet = this.isQuiet;
    this.#lastMs = this.#clock.monotonic();
    if (wasQuiet) this.#busySinceMs = this.#lastMs;
    this.#next.resolve();
    this.#next = Promise.withResolvers();
  }

  /** Notes that somebody's work begins. Dispose what it gives when it has ended. */
  begin(): Disposable {
    this.touch();
    this.#running += 1;
    return {
      [Symbol.dispose]: () => {
        this.#running -= 1;
        this.touch();
      },
    };
  }

  /** Whether nobody reads or delivers, and nobody did for a while. */
  get isQuiet(): boolean {
    return this.#running === 0 && this.#clock.monotonic() - this.#lastMs >= this.#quietMs;
  }

  /** Whether work that can wait may begin: it is quiet, or has not been for minutes. */
  get mayBegin(): boolean {
    return this.isQuiet || this.#clock.monotonic() - this.#busySinceMs >= MAX_WAIT_MS;
  }

  /** Waits for the next traffic, then until work that can wait may begin. */
  async nextRest(signal: AbortSignal): Promise<void> {
    // Whoever came since the last look is the next one.
    if (this.isQuiet) await unlessAborted(this.#next.promise, signal);
    await this.rest(signal);
  }

  /** Waits until work that can wait may begin; at least for one quiet time. */
  async rest(signal: AbortSignal): Promise<void> {
    do {
      const sinceMs = this.#clock.monotonic() - this.#lastMs;
      const leftMs = this.#quietMs - sinceMs;
      await this.#clock.sleep(leftMs > 0 ? leftMs : this.#quietMs, signal);
    } while (!this.mayBegin);
  }
}
