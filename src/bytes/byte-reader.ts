/**
 * Reads a disk at any offset. The only way in which `bytes/` sees a disk.
 *
 * Every implementation reads past stale caches where the source is mounted, and serves concurrent
 * calls.
 */
export interface ByteReader {
  readonly sizeBytes: number;
  /**
   * Reads exactly these bytes.
   *
   * @returns `lengthBytes` bytes; the buffer belongs to the caller
   * @throws IngotError `source-truncated` when the range is not wholly inside the source,
   *   `source-unreadable` on an I/O error
   */
  read(offsetBytes: number, lengthBytes: number): Promise<Buffer>;
}
