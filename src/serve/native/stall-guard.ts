import type { Clock } from '../../base/index.ts';

/** How long a peer may neither send nor take a byte in the middle of a transfer. */
export const STALL_MS = 120_000;

const ENDED = new Error('the transfer has ended');

/** Watches one transfer; `start` and `stop` bracket each wait for the peer. */
export interface StallGuard extends Disposable {
  start(): void;
  stop(): void;
}

/**
 * Calls `onStall` once when one wait for the peer is longer than {@link STALL_MS}.
 *
 * One slow timer for a whole transfer: a timer for each wait would cost more than the wait.
 */
export function stallGuard(clock: Clock, onStall: () => void): StallGuard {
  const ended = new AbortController();
  let waitingSince: number | undefined;
  const watch = async (): Promise<void> => {
    for (;;) {
      await clock.sleep(STALL_MS / 4, ended.signal);
      if (waitingSince !== undefined && clock.monotonic() - waitingSince > STALL_MS) {
        onStall();
        return;
      }
    }
  };
  // Being told to end is the only way in which it rejects.
  watch().catch(() => undefined);
  return {
    start: () => {
      waitingSince = clock.monotonic();
    },
    stop: () => {
      waitingSince = undefined;
    },
    // A reason of its own spares the stack of a new one for every body.
    [Symbol.dispose]: () => ended.abort(ENDED),
  };
}
