import { hash } from 'node:crypto';
import { isFailure } from '../../base/index.ts';
import { storedSegmentBytes } from '../../bytes/index.ts';
import type { SegmentEngine } from '../chunks/segment-engine.ts';

/** Bytes of a SHA-256. */
const DIGEST_BYTES = 32;

/** Numbers of a span in a {@link ChunkTask}: start and length. */
export const SPAN_NUMBERS = 2;

/** Numbers that `encode` gives for each span: coded length, plain CRC-32, coded CRC-32. */
export const CODED_NUMBERS = 3;

/** Numbers of a segment to check: start, coded length, plain length, plain and coded CRC-32. */
export const SEGMENT_NUMBERS = 5;

/** Numbers of a segment to decode: start, coded length, start in the target, plain length. */
export const DECODED_NUMBERS = 4;

/** What `decode` finds, by the number that it gives for a segment. */
export const DECODE_PROBLEMS: readonly (string | undefined)[] = [
  undefined,
  'it does not inflate to its plain length',
  'its plain bytes have another digest',
];

/** What `check` finds, by the number that it gives for a segment. */
export const CHECK_PROBLEMS: readonly (string | undefined)[] = [
  undefined,
  'its coded CRC-32 differs',
  'it does not inflate to its plain length',
  'its plain CRC-32 differs',
  'its plain bytes have another digest',
];

/** Work for one thread; all bytes lie in shared memory. */
export type ChunkTask =
  | { readonly kind: 'digest'; readonly bytes: Uint8Array; readonly numbers: Uint32Array }
  | {
      readonly kind: 'encode';
      readonly bytes: Uint8Array;
      readonly numbers: Uint32Array;
      /** Takes the coded bytes, one segment after another. */
      readonly target: Uint8Array;
      /** Whether segments are inflated again and compared. */
      readonly isCompared: boolean;
    }
  | {
      readonly kind: 'check';
      readonly bytes: Uint8Array;
      readonly numbers: Uint32Array;
      /** What the plain bytes must be called, 32 bytes each. */
      readonly digests: Uint8Array;
    }
  | {
      readonly kind: 'decode';
      readonly bytes: Uint8Array;
      readonly numbers: Uint32Array;
      /** What the plain bytes must be called, 32 bytes each. */
      readonly digests: Uint8Array;
      /** Takes the plain bytes. */
      readonly target: Uint8Array;
    };

/**
 * Does a task.
 *
 * @returns digests, the numbers of coded spans, or for each segment an index of
 *   {@link CHECK_PROBLEMS} or {@link DECODE_PROBLEMS}
 */
export function doChunkTask(engine: SegmentEngine, task: ChunkTask): Uint8Array | Uint32Array {
  const bytes = bufferOver(task.bytes);
  switch (task.kind) {
    case 'digest':
      return digestSpans(bytes, task.numbers);
    case 'encode':
      return encodeSpans(engine, bytes, { ...task, target: bufferOver(task.target) });
    case 'check':
      return checkSegments(engine, bytes, task.numbers, task.digests);
    case 'decode':
      return decodeSegments(engine, bytes, task);
  }
}

function bufferOver(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function digestSpans(bytes: Buffer, spans: Uint32Array): Uint8Array {
  const digests = new Uint8Array((spans.length / SPAN_NUMBERS) * DIGEST_BYTES);
  for (let i = 0, at = 0; i < spans.length; i += SPAN_NUMBERS, at += DIGEST_BYTES) {
    digests.set(hash('sha256', spanOf(bytes, spans, i), 'buffer'), at);
  }
  return digests;
}

function encodeSpans(
  engine: SegmentEngine,
  bytes: Buffer,
  task: { readonly numbers: Uint32Array; readonly target: Buffer; readonly isCompared: boolean },
): Uint32Array {
  const { numbers: spans, target, isCompared } = task;
  const numbers = new Uint32Array((spans.length / SPAN_NUMBERS) * CODED_NUMBERS);
  let at = 0;
  for (let i = 0, to = 0; i < spans.length; i += SPAN_NUMBERS, to += CODED_NUMBERS) {
    const plain = spanOf(bytes, spans, i);
    const room = target.subarray(at, at + storedSegmentBytes(plain.byteLength));
    const codedBytes = engine.encodeInto(plain, room);
    if (isCompared) mustInflateTo(engine, room.subarray(0, codedBytes), plain);
    numbers[to] = codedBytes;
    numbers[to + 1] = engine.crc32(plain);
    numbers[to + 2] = engine.crc32(room.subarray(0, codedBytes));
    at += codedBytes;
  }
  return numbers;
}

/** @throws Error when the engine does not get back what it coded */
function mustInflateTo(engine: SegmentEngine, coded: Buffer, plain: Buffer): void {
  if (engine.decode(coded, plain.byteLength).equals(plain)) return;
  throw new Error(`${engine.name} coded ${plain.byteLength} bytes and inflates them to others`);
}

function checkSegments(
  engine: SegmentEngine,
  bytes: Buffer,
  segments: Uint32Array,
  digests: Uint8Array,
): Uint8Array {
  const problems = new Uint8Array(segments.length / SEGMENT_NUMBERS);
  for (let i = 0; i < problems.length; i++) {
    const at = i * SEGMENT_NUMBERS;
    const claim: SegmentClaim = {
      plainBytes: segments[at + 2] ?? 0,
      plainCrc32: segments[at + 3] ?? 0,
      codedCrc32: segments[at + 4] ?? 0,
      digest: digests.subarray(i * DIGEST_BYTES, (i + 1) * DIGEST_BYTES),
    };
    problems[i] = problemOf(engine, spanOf(bytes, segments, at), claim);
  }
  return problems;
}

function decodeSegments(
  engine: SegmentEngine,
  bytes: Buffer,
  { numbers, digests, target }: ChunkTask & { readonly kind: 'decode' },
): Uint8Array {
  const problems = new Uint8Array(numbers.length / DECODED_NUMBERS);
  const plainBytes = bufferOver(target);
  for (let i = 0; i < problems.length; i++) {
    const at = i * DECODED_NUMBERS;
    const plain = spanOf(plainBytes, numbers, at + SPAN_NUMBERS);
    try {
      engine.decodeInto(spanOf(bytes, numbers, at), plain);
    } catch (thrown) {
      if (!isFailure(thrown, 'segment-malformed')) throw thrown;
      problems[i] = 1;
      continue;
    }
    const digest = digests.subarray(i * DIGEST_BYTES, (i + 1) * DIGEST_BYTES);
    problems[i] = hash('sha256', plain, 'buffer').equals(digest) ? 0 : 2;
  }
  return problems;
}

interface SegmentClaim {
  readonly plainBytes: number;
  readonly plainCrc32: number;
  readonly codedCrc32: number;
  readonly digest: Uint8Array;
}

/** @returns an index of {@link CHECK_PROBLEMS} */
function problemOf(engine: SegmentEngine, coded: Buffer, claim: SegmentClaim): number {
  // The cheap check first: a torn upload fails here without being inflated.
  if (engine.crc32(coded) !== claim.codedCrc32) return 1;
  let plain: Buffer;
  try {
    plain = engine.decode(coded, claim.plainBytes);
  } catch (thrown) {
    if (isFailure(thrown, 'segment-malformed')) return 2;
    throw thrown;
  }
  if (engine.crc32(plain) !== claim.plainCrc32) return 3;
  return hash('sha256', plain, 'buffer').equals(claim.digest) ? 0 : 4;
}

function spanOf(bytes: Buffer, numbers: Uint32Array, index: number): Buffer {
  const start = numbers[index] ?? 0;
  return bytes.subarray(start, start + (numbers[index + 1] ?? 0));
}
