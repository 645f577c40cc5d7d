/**
 * An image in some outward form, with a length that is known before the first byte.
 *
 * HTTP Range, FTP REST and downloads that resume all read through this. Disposal ends the lease
 * that keeps its chunks from collection.
 */
export interface PublishedFile extends AsyncDisposable {
  /** File name for users: `img-y22uq.gz`. */
  readonly name: string;
  readonly mediaType: string;
  readonly sizeBytes: number;
  /** Strong validator without quotes: changes exactly when a byte changes. */
  readonly etag: string;
  /** SHA-256 of the file's bytes as hex, where it is known without reading them. */
  readonly sha256: string | undefined;
  /**
   * Reads a part of the file, checked against the CRCs or digests that the library keeps.
   *
   * @param startByte first byte, 0 to `sizeBytes`
   * @param endByte one after the last, `startByte` to `sizeBytes`
   * @returns buffers that must not be written; each is valid until the next is asked for
   * @throws IngotError `chunk-corrupt`, `chunk-missing`: the bytes given so far were right
   */
  read(startByte: number, endByte: number, signal?: AbortSignal): AsyncIterable<Uint8Array>;
}
