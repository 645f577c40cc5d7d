/**
 * Codes one chunk as a segment and back (docs/formats/segments.md).
 *
 * Every implementation passes `test/contracts/segment-codec.ts`, and promises that:
 *
 * - `encode` gives byte-aligned raw deflate without a final block and without a reference before
 *   its start, never above `MAX_CODED_BYTES` for a chunk of `MAX_CHUNK_BYTES`;
 * - `decode` succeeds only if the coded bytes yield exactly `plainBytes` bytes and are all used:
 *   half a segment is never taken for a whole one;
 * - several calls run at once, on other threads than the caller's.
 */
export interface SegmentCodec {
  /** The engine's name and level, for people and for `ingot doctor`: `isal-2`, `zlib-2`. */
  readonly name: string;
  /** @param plain must not change until the promise settles */
  encode(plain: Uint8Array): Promise<Buffer>;
  /**
   * @returns a buffer that is the caller's alone
   * @throws IngotError `segment-malformed`
   */
  decode(coded: Uint8Array, plainBytes: number): Promise<Buffer>;
  /** @returns the CRC-32 of gzip, computed on the caller's thread */
  crc32(bytes: Uint8Array): number;
}
