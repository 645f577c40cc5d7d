import type { ByteReader } from '../bytes/index.ts';

/** Bytes in memory that will be used again. */
export interface LentBytes {
  readonly bytes: Buffer;
  /** Call once, when nobody has a view into the bytes any more. Never calling it only costs memory. */
  readonly release: () => void;
}

/** A reader that may have memory of its own for long reads. */
export interface MayLend extends ByteReader {
  /** As `read`; what it gives must be released instead of being kept. */
  lend?(offsetBytes: number, lengthBytes: number): Promise<LentBytes>;
}

/**
 * Reads a block device past caches that may be stale.
 *
 * A mounted filesystem keeps its files in caches of its own: the block device's page cache is not
 * coherent with them and gives old data, silently. Every implementation promises that a read that
 * began after `dropStale` returned never gives bytes older than that moment.
 */
export interface DiskReader extends MayLend, AsyncDisposable {
  /** The logical block size, where it is known. */
  readonly sectorBytes?: number | undefined;
  /** As `read`, into memory of the caller: `target.byteLength` bytes. */
  readInto(offsetBytes: number, target: Buffer): Promise<void>;
  /** Call after each freeze and before each live pass. Cheap where reads bypass the cache. */
  dropStale(): Promise<void>;
}
