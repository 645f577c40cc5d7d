import type { ByteReader } from '../bytes/index.ts';

/**
 * Reads a block device past caches that may be stale.
 *
 * A mounted filesystem keeps its files in caches of its own: the block device's page cache is not
 * coherent with them and gives old data, silently. Every implementation promises that a read that
 * began after `dropStale` returned never gives bytes older than that moment.
 */
export interface DiskReader extends ByteReader, AsyncDisposable {
  /** Call after each freeze and before each live pass. Cheap where reads bypass the cache. */
  dropStale(): Promise<void>;
}
