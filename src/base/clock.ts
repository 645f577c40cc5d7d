/**
 * Where time comes from: the machine's clock, or a test's. Every implementation passes
 * `test/contracts/clock.ts`.
 */
export interface Clock {
  /** Wall time in ms since 1970, for people and rows. It may jump. */
  now(): number;
  /** Time in ms that only runs forward, for measuring. */
  monotonic(): number;
  /** Waits. Rejects with the signal's reason when `signal` aborts first. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

/** The machine's clock. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  sleep: (ms, signal) =>
    new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(signal.reason);
        return;
      }
      const onAbort = (): void => {
        clearTimeout(timer);
        reject(signal?.reason);
      };
      const timer = setTimeout(() => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      }, ms);
      signal?.addEventListener('abort', onAbort, { once: true });
    }),
};

/** Formats wall time as ISO 8601 in UTC with whole seconds: `2010-12-19T12:57:37Z`. */
export function isoTime(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d{3}Z$/, 'Z');
}

/** Reads ISO 8601 back. @returns ms since 1970, or NaN when it is none */
export function parseIsoTime(text: string): number {
  return Date.parse(text);
}
