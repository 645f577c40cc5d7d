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
  /**
   * Decodes a segment into memory of the caller.
   *
   * Only the length is checked: where the segment ends is not seen. Whoever uses the bytes compares
   * their digest first.
   *
   * @param target is filled exactly; after a failure it holds anything
   * @throws IngotError `segment-malformed`
   */
  decodeInto(coded: Uint8Array, target: Buffer): void;
  /** @returns the CRC-32 of gzip */
  crc32(bytes: Buffer): number;
}
