import { IngotError, isFailure } from '../../base/index.ts';
import type { LibraryContext } from './library-context.ts';

/**
 * Whether the library can do its work: all of it; all but taking images in, for the disk is nearly
 * full; or nothing that can be relied on.
 */
export type LibraryHealth = 'ok' | 'full' | 'unusable';

const PATIENCE_MS = 5000;
const PROBE = 'health.new';

/**
 * Asks the catalogue, and makes and removes a file in the data directory.
 *
 * @param keepFreeBytes with less the library is `full`
 */
export async function checkHealth(
  context: LibraryContext,
  keepFreeBytes: number,
): Promise<{
  readonly health: LibraryHealth;
  readonly reason: string;
  readonly freeBytes: number;
}> {
  const { disk, clock } = context;
  const late = new AbortController();
  try {
    const slow = clock.sleep(PATIENCE_MS, late.signal).then(() => {
      throw new IngotError('library-unusable', `no answer within ${PATIENCE_MS} ms`);
    });
    // Ended below when it is not needed.
    slow.catch(() => undefined);
    await Promise.race([probe(context), slow]);
    const freeBytes = await disk.freeBytes();
    if (freeBytes >= keepFreeBytes) return { health: 'ok', reason: '', freeBytes };
    return { health: 'full', reason: `${freeBytes} bytes are free`, freeBytes };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    const health = isFailure(error, 'library-full') ? 'full' : 'unusable';
    return { health, reason, freeBytes: 0 };
  } finally {
    late.abort(new Error('in time'));
  }
}

async function probe({ catalogue, disk }: LibraryContext): Promise<void> {
  await catalogue.lastJob('verify', '');
  await disk.remove(PROBE);
  await using _file = await disk.create(PROBE, 0o600);
  await disk.remove(PROBE);
}
