import {
  DynamicBlockWriter,
  END_OF_BLOCK,
  FIRST_LENGTH_SYMBOL,
  lengthSymbol,
} from './deflate-block.ts';

/** 2^24: larger ones would not be smaller per byte, and a range in a hole is found within one. */
const LARGEST_POWER = 24;

/** The longest zero segment. */
const LARGEST_BYTES = 2 ** LARGEST_POWER;

/** The longest match of deflate, and its symbol. */
const LONGEST_MATCH = 258;
const LONGEST_MATCH_SYMBOL = 285;

const segments: Buffer[] = [];

/** Writes the zero segment of 2^power bytes. */
function makeZeroSegment(power: number): Buffer {
  const matchedBytes = 2 ** power - 1;
  const restBytes = matchedBytes % LONGEST_MATCH;
  const rest = restBytes < 3 ? undefined : lengthSymbol(restBytes);
  const block = new DynamicBlockWriter(
    new Map([
      [LONGEST_MATCH_SYMBOL, 1],
      [0, 2],
      [END_OF_BLOCK, 3],
      [rest?.symbol ?? FIRST_LENGTH_SYMBOL, 3],
    ]),
    { isFinal: false },
  );
  block.symbol(0);
  for (let n = Math.floor(matchedBytes / LONGEST_MATCH); n > 0; n--) {
    block.repeat(LONGEST_MATCH_SYMBOL, 0, 0);
  }
  if (rest === undefined) for (let n = restBytes; n > 0; n--) block.symbol(0);
  else block.repeat(rest.symbol, rest.extraValue, rest.extraBits);
  return block.flush();
}

/** @returns the segment of 2^power zero bytes, power 0 to 24; it must not be written */
function zeroSegment(power: number): Buffer {
  const made = segments[power];
  if (made !== undefined) return made;
  const segment = makeZeroSegment(power);
  segments[power] = segment;
  return segment;
}

/** @returns the powers of the segments below 16 MiB, from large to small */
function* lowPowers(lengthBytes: number): Generator<number, void, undefined> {
  const rest = lengthBytes % LARGEST_BYTES;
  for (let power = LARGEST_POWER - 1; power >= 0; power--) {
    if (Math.floor(rest / 2 ** power) % 2 === 1) yield power;
  }
}

/** @returns how many coded bytes the zero segments of a hole have together */
export function zeroSegmentsBytes(lengthBytes: number): number {
  let bytes = Math.floor(lengthBytes / LARGEST_BYTES) * zeroSegment(LARGEST_POWER).byteLength;
  for (const power of lowPowers(lengthBytes)) bytes += zeroSegment(power).byteLength;
  return bytes;
}

/**
 * Gives the coded bytes of a hole: zero segments in the order of the format.
 *
 * @param lengthBytes the hole's plain length; 0 gives nothing
 * @param fromCodedByte where to begin within the coded bytes, 0 to `zeroSegmentsBytes(lengthBytes)`
 * @returns parts of shared constants: they must not be written
 * @see docs/formats/segments.md
 */
export function* zeroSegments(
  lengthBytes: number,
  fromCodedByte = 0,
): Generator<Buffer, void, undefined> {
  const largest = zeroSegment(LARGEST_POWER);
  const largestCount = Math.floor(lengthBytes / LARGEST_BYTES);
  const skipped = Math.min(largestCount, Math.floor(fromCodedByte / largest.byteLength));
  let skipBytes = fromCodedByte - skipped * largest.byteLength;
  for (let n = skipped; n < largestCount; n++) {
    yield skipBytes === 0 ? largest : largest.subarray(skipBytes);
    skipBytes = 0;
  }
  for (const power of lowPowers(lengthBytes)) {
    const segment = zeroSegment(power);
    if (skipBytes < segment.byteLength) {
      yield skipBytes === 0 ? segment : segment.subarray(skipBytes);
    }
    skipBytes = Math.max(0, skipBytes - segment.byteLength);
  }
}
