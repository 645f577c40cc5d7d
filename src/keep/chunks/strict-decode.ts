import { IngotError } from '../../base/index.ts';
import { MAX_CHUNK_BYTES, MAX_CODED_BYTES, makeSegmentProbe } from '../../bytes/index.ts';

/**
 * The probe that every engine of this process puts behind a segment to decode it. Whoever makes
 * segments must not know it.
 */
export const segmentProbe = makeSegmentProbe();

/** What an engine made of a segment with the probe behind it. */
export interface ProbedOutput {
  readonly output: Buffer;
  /** Bytes of segment and probe that it used before the stream ended. */
  readonly usedBytes: number;
}

/** @returns the failure of a segment that is none */
export function segmentMalformed(
  coded: Uint8Array,
  plainBytes: number,
  problem: string,
  cause?: unknown,
): IngotError {
  return new IngotError(
    'segment-malformed',
    `a segment of ${coded.byteLength} coded and ${plainBytes} plain bytes: ${problem}`,
    { codedBytes: coded.byteLength, plainBytes },
    { cause },
  );
}

/**
 * Refuses what is too small or too large to be a segment, before memory is taken for it.
 *
 * @throws IngotError `segment-malformed`
 */
export function checkSegmentLengths(coded: Uint8Array, plainBytes: number): void {
  if (!Number.isInteger(plainBytes) || plainBytes < 1 || plainBytes > MAX_CHUNK_BYTES) {
    throw segmentMalformed(coded, plainBytes, `a chunk has 1 to ${MAX_CHUNK_BYTES} bytes`);
  }
  if (coded.byteLength < 1 || coded.byteLength > MAX_CODED_BYTES) {
    throw segmentMalformed(coded, plainBytes, `a segment has 1 to ${MAX_CODED_BYTES} bytes`);
  }
}

/**
 * Takes the plain bytes out of what an engine made of segment and probe.
 *
 * @throws IngotError `segment-malformed` unless the segment yields exactly `plainBytes` bytes, is
 *   used up, and ends between two blocks
 * @see docs/formats/segments.md "Decoding strictly"
 */
export function checkedPlain(
  coded: Uint8Array,
  plainBytes: number,
  { output, usedBytes }: ProbedOutput,
): Buffer {
  if (
    usedBytes !== coded.byteLength + segmentProbe.coded.byteLength ||
    output.byteLength !== plainBytes + segmentProbe.plain.byteLength ||
    !output.subarray(plainBytes).equals(segmentProbe.plain)
  ) {
    throw segmentMalformed(coded, plainBytes, 'it does not end between two blocks at that length');
  }
  return output.subarray(0, plainBytes);
}
