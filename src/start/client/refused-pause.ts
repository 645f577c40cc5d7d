import type { IngotError } from '../../base/index.ts';

/** What a daemon asks for is kept between these. */
const PAUSE_MS = { min: 500, max: 60_000 };

/**
 * Tells how long to wait before a daemon that had no room is asked again.
 *
 * @param refusal `too-many-requests`
 * @param otherwiseSeconds where the daemon does not say
 */
export function refusedPauseMs({ facts }: IngotError, otherwiseSeconds: number): number {
  const seconds = Number(facts['retryAfterSeconds'] ?? otherwiseSeconds);
  return Math.min(Math.max(seconds * 1000, PAUSE_MS.min), PAUSE_MS.max);
}
