import { combineCrc32 } from './crc32-combine.ts';
import type { Segment } from './segment.ts';

/** The first bytes of every spliced member: no name, no time, unknown system (RFC 1952). */
export const GZIP_HEADER: Buffer = Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);

/** Length of what {@link gzipTrailer} gives. */
export const GZIP_TRAILER_BYTES = 10;

/**
 * Ends a spliced member: an empty final block, the CRC-32 and the length of the plain bytes.
 *
 * @param plainCrc32 of everything before, combined from the parts
 * @param plainBytes of everything before; kept modulo 2^32 as RFC 1952 says
 */
export function gzipTrailer(plainCrc32: number, plainBytes: number): Buffer {
  const trailer = Buffer.allocUnsafe(GZIP_TRAILER_BYTES);
  trailer[0] = 0x03;
  trailer[1] = 0x00;
  trailer.writeUInt32LE(plainCrc32 >>> 0, 2);
  trailer.writeUInt32LE(plainBytes % 2 ** 32, 6);
  return trailer;
}

/** @returns the length of a spliced member */
export function splicedGzipBytes(codedBytes: number): number {
  return GZIP_HEADER.byteLength + codedBytes + GZIP_TRAILER_BYTES;
}

/**
 * Joins segments into one gzip member, in memory.
 *
 * For a few segments only; whole images are given out part by part.
 *
 * @see docs/formats/segments.md
 */
export function spliceGzip(
  segments: readonly Pick<Segment, 'coded' | 'plainBytes' | 'plainCrc32'>[],
): Buffer {
  let crc32 = 0;
  let plainBytes = 0;
  for (const segment of segments) {
    crc32 = combineCrc32(crc32, segment.plainCrc32, segment.plainBytes);
    plainBytes += segment.plainBytes;
  }
  const coded = segments.map((segment) => segment.coded);
  return Buffer.concat([GZIP_HEADER, ...coded, gzipTrailer(crc32, plainBytes)]);
}
