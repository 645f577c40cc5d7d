import type { Digest } from '../base/index.ts';

/**
 * One chunk as raw deflate: byte-aligned, without a final block and without a reference before its
 * start, so that segments one after another are one deflate stream.
 *
 * @see docs/formats/segments.md
 */
export interface Segment {
  /** SHA-256 of the plain bytes: the chunk's name. */
  readonly digest: Digest;
  readonly plainBytes: number;
  readonly plainCrc32: number;
  /** CRC-32 of {@link coded}: checks a download without inflating it. */
  readonly codedCrc32: number;
  readonly coded: Uint8Array;
}

/** A chunk is never larger than this (docs/formats/chunk-rule.md). */
export const MAX_CHUNK_BYTES = 256 * 1024;

/** A coded segment is never larger than this: stored blocks cost 5 bytes in 65535, and the flush. */
export const MAX_CODED_BYTES = MAX_CHUNK_BYTES + 1024;
