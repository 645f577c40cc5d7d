import { type Clock, IngotError } from '../../base/index.ts';

/** Wrong secrets within the window, for one client id. */
const MAX_CLIENT_FAILURES = 10;
/** The same for one address, which a whole office or a proxy may share. */
const MAX_ADDRESS_FAILURES = 100;
const WINDOW_MS = 60_000;
/** Keys remembered; beyond it the oldest is forgotten, so that nobody can fill the memory. */
const MAX_KEYS = 10_000;

interface Failures {
  count: number;
  since: number;
}

/** Who tries: the client id that was named, and the address that it came from. */
export interface Attempt {
  readonly clientId: string;
  readonly address: string;
}

/** Slows down guessing: counts wrong secrets by client id and by address. */
export class AttemptLimit {
  readonly #clock: Clock;
  readonly #failures = new Map<string, Failures>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** @throws IngotError `too-many-requests` when the client or the address failed too often */
  check(attempt: Attempt): void {
    for (const { key, limit } of keysOf(attempt)) {
      const known = this.#current(key);
      if (known === undefined || known.count < limit) continue;
      const waitMs = known.since + WINDOW_MS - this.#clock.monotonic();
      const seconds = Math.max(1, Math.ceil(waitMs / 1000));
      throw new IngotError('too-many-requests', `too many wrong secrets; wait ${seconds} s`, {
        retryAfterSeconds: seconds,
      });
    }
  }

  /** Counts a wrong secret. */
  failed(attempt: Attempt): void {
    for (const { key } of keysOf(attempt)) {
      const known = this.#current(key);
      if (known !== undefined) known.count += 1;
      else this.#remember(key);
    }
  }

  #current(key: string): Failures | undefined {
    const known = this.#failures.get(key);
    if (known === undefined) return undefined;
    if (this.#clock.monotonic() - known.since < WINDOW_MS) return known;
    this.#failures.delete(key);
    return undefined;
  }

  #remember(key: string): void {
    const [oldest] = this.#failures.keys();
    if (this.#failures.size >= MAX_KEYS && oldest !== undefined) this.#failures.delete(oldest);
    this.#failures.set(key, { count: 1, since: this.#clock.monotonic() });
  }
}

function keysOf({ clientId, address }: Attempt): { key: string; limit: number }[] {
  return [
    { key: `client ${clientId}`, limit: MAX_CLIENT_FAILURES },
    { key: `address ${address}`, limit: MAX_ADDRESS_FAILURES },
  ];
}
