/** The longest stored block of deflate. */
const MAX_STORED_BYTES = 65_535;

const BLOCK_HEADER_BYTES = 5;

/** @returns the length of {@link storedSegment} */
export function storedSegmentBytes(plainBytes: number): number {
  return plainBytes + BLOCK_HEADER_BYTES * Math.ceil(plainBytes / MAX_STORED_BYTES);
}

/**
 * Codes a chunk that does not compress: stored blocks, byte-aligned, none of them final.
 *
 * @see docs/formats/segments.md
 */
export function storedSegment(plain: Uint8Array): Buffer {
  const coded = Buffer.allocUnsafeSlow(storedSegmentBytes(plain.byteLength));
  storeInto(plain, coded);
  return coded;
}

/**
 * As {@link storedSegment}, into memory of the caller.
 *
 * @param coded has room for it
 * @returns its length
 */
export function storeInto(plain: Uint8Array, coded: Buffer): number {
  let at = 0;
  for (let start = 0; start < plain.byteLength; start += MAX_STORED_BYTES) {
    const block = plain.subarray(start, start + MAX_STORED_BYTES);
    coded[at] = 0;
    coded.writeUInt16LE(block.byteLength, at + 1);
    coded.writeUInt16LE(block.byteLength ^ 0xffff, at + 3);
    coded.set(block, at + BLOCK_HEADER_BYTES);
    at += BLOCK_HEADER_BYTES + block.byteLength;
  }
  return at;
}
