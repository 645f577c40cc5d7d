import type { ByteReader } from '../bytes/index.ts';

/** Bytes in memory that will be used again. */
export interface LentBytes {
  readonly bytes: Buffer;
  /** Call once, when nobody has a view into the bytes any more. Never calling it only costs memory. */
  readonly release: () => void;
}

/** A reader that fills memory of its callers. */
export interface FillingReader extends ByteReader {
  /** As `read`, into memory of the caller: `target.byteLength` bytes. */
  readInto(offsetBytes: number, target: Buffer): Promise<void>;
  /**
   * Makes memory that `readInto` fills without a copy, where it lies at multiples of 4096 and the
   * offsets do too. Where this is not there, any memory is as good.
   */
  allocate?(lengthBytes: number): Buffer;
  /**
   * Gives bytes that are in memory already, which spares a copy.
   *
   * @returns undefined where they are not, or not in one piece: read them
   */
  lend?(offsetBytes: number, lengthBytes: number): Promise<LentBytes | undefined>;
}

/**
 * Reads a block device past caches that may be stale.
 *
 * A mounted filesystem keeps its files in caches of its own: the block device's page cache is not
 * coherent with them and gives old data, silently. Every implementation promises that a read that
 * began after `dropStale` returned never gives bytes older than that moment.
 */
export interface DiskReader extends FillingReader, AsyncDisposable {
  /** The logical block size, where it is known. */
  readonly sectorBytes?: number | undefined;
  /** Call after each freeze and before each live pass. Cheap where reads bypass the cache. */
  dropStale(): Promise<void>;
}
