/**
 * Codes segments and sums up bytes on the thread that calls (docs/formats/segments.md).
 *
 * What it makes and takes is what a `SegmentCodec` makes and takes, and it passes the same contract
 * suite. One engine serves one thread.
 */
export interface SegmentEngine {
  /** Engine and level, as the codec of the same engine is called. */
  readonly name: string;
  /**
   * Codes a chunk.
   *
   * @param target has room for the chunk as stored blocks
   * @returns how many bytes at the start of `target` are the segment
   */
  encodeInto(plain: Buffer, target: Buffer): number;
  /**
   * Decodes a segment.
   *
   * @returns a view that the next call overwrites
   * @throws IngotError `segment-malformed`
   */
  decode(coded: Uint8Array, plainBytes: number): Buffer;
  /** @returns the CRC-32 of gzip */
  crc32(bytes: Buffer): number;
}
