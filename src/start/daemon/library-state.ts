import type { Clock, Log } from '../../base/index.ts';
import type { DirectoryLibrary, LibraryHealth } from '../../keep/index.ts';
import type { LibraryGauges } from './metrics.ts';

/** Anybody may ask without a token, so the library itself is asked now and then only. */
const HEALTH_FOR_MS = 5000;
const GAUGES_FOR_MS = 15_000;

/** What `/healthz` and `/metrics` tell of a library. */
export interface LibraryState {
  health(): Promise<LibraryHealth>;
  gauges(): Promise<LibraryGauges>;
}

/** Reads the state of a library, and says in the log when its health changes. */
export function libraryState(
  library: DirectoryLibrary,
  {
    clock,
    log,
    keepFreeBytes,
  }: { readonly clock: Clock; readonly log: Log; readonly keepFreeBytes: number },
): LibraryState {
  let before: LibraryHealth = 'ok';
  const check = remembered(clock, HEALTH_FOR_MS, async () => {
    const found = await library.health(keepFreeBytes);
    const { health, reason } = found;
    if (health !== before) log.warn('the health of the library has changed', { health, reason });
    before = health;
    return found;
  });
  const gauges = remembered(clock, GAUGES_FOR_MS, async () => {
    const { images, liveBytes, quarantinedChunks } = await library.stats();
    const jobs = await library.jobs.counts();
    const { freeBytes } = await check();
    return { images, storedBytes: liveBytes, quarantinedChunks, freeBytes, jobs };
  });
  return { health: async () => (await check()).health, gauges };
}

/** Asks once for a while, whoever wants to know. */
function remembered<T>(clock: Clock, forMs: number, ask: () => Promise<T>): () => Promise<T> {
  let known: { readonly value: Promise<T>; readonly until: number } | undefined;
  return () => {
    const now = clock.monotonic();
    if (known === undefined || now >= known.until) known = { value: ask(), until: now + forMs };
    return known.value;
  };
}
