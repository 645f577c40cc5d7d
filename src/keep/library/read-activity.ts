import type { Clock } from '../../base/index.ts';

/** A download asks for its next bytes sooner than this, unless its receiver is slow. */
const RECENT_MS = 500;

/** Whether somebody downloads just now, for work that can wait. */
export class ReadActivity {
  readonly #clock: Pick<Clock, 'monotonic'>;
  #lastMs = Number.NEGATIVE_INFINITY;

  constructor(clock: Pick<Clock, 'monotonic'>) {
    this.#clock = clock;
  }

  /** Notes that chunks were read for somebody. */
  touch(): void {
    this.#lastMs = this.#clock.monotonic();
  }

  get isRecent(): boolean {
    return this.#clock.monotonic() - this.#lastMs < RECENT_MS;
  }
}
