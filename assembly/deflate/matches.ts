/**
 * Finds what a chunk repeats, as a list of tokens, and counts symbols on the way.
 *
 * Most of the coder's time is spent here, and most of that on branches that the processor foresees
 * wrongly. So what is rarely of use is left out: a second candidate where the first does not match,
 * matches of three bytes, chains.
 */
import { MAX_BLOCK_BYTES, NUMBER_BYTES, PLAIN } from './rooms.ts';
import {
  DISTANCE_SYMBOLS,
  distanceSymbol,
  FIRST_LENGTH_SYMBOL,
  LITERAL_SYMBOLS,
  lengthSymbol,
  MAX_LENGTH,
  MIN_LENGTH,
} from './symbols.ts';

/** Bytes that are hashed and compared at once: shorter matches are not found. */
const KEY_BYTES: i32 = 4;
const LOAD_BYTES: i32 = 8;
const MAX_DISTANCE: u32 = 32768;

/**
 * The two latest places of each hash, the later one below; only their lowest 16 bits, which tell any
 * distance up to the longest. Places that are older look like others, which are compared like any: so
 * no entry is ever wrong, and an empty one is the chunk's start, or 64 KiB after it, and so on.
 */
const MAX_HASH_BITS: i32 = 15;
const MIN_HASH_BITS: i32 = 8;
const places: usize = memory.data((1 << MAX_HASH_BITS) * NUMBER_BYTES, 64);
const PLACE_BITS: u32 = 16;
const PLACE_MASK: u32 = (1 << PLACE_BITS) - 1;
/** Knuth's: the golden ratio of 2^32. */
const HASH_FACTOR: u32 = 2654435761;

/** A longer match is taken as it is: the second candidate would save little. */
const GOOD_LENGTH: i32 = 32;
/** A longer match is taken before the next byte's is looked at. */
const EAGER_LENGTH: i32 = 16;

/** By so much the next byte's match must be longer: one byte only makes up for the literal. */
const MIN_GAIN: i32 = 2;

/** After so many bytes without a match one more byte is passed over each time. */
const PATIENCE_BITS: i32 = 6;

/**
 * Matches in order: the literals before each, then length, symbol and distance less one in one
 * number. Behind the last one stands how many literals follow it.
 */
export const tokens: usize = memory.data(
  ((2 * MAX_BLOCK_BYTES) / KEY_BYTES + 1) * NUMBER_BYTES,
  16,
);
export const TOKEN_BYTES: usize = 8;
const BACK_BITS: u32 = 15;
const LENGTH_BITS: u32 = 9;

/** @returns the distance of a match, less one */
export function tokenBack(match: u32): u32 {
  return match & ((1 << BACK_BITS) - 1);
}

export function tokenLength(match: u32): u32 {
  return (match >> BACK_BITS) & ((1 << LENGTH_BITS) - 1);
}

export function tokenDistanceSymbol(match: u32): u32 {
  return match >> (BACK_BITS + LENGTH_BITS);
}

/** How often each symbol comes between the two places that were searched last. */
export const literalCounts: usize = memory.data(LITERAL_SYMBOLS * NUMBER_BYTES, 16);
export const distanceCounts: usize = memory.data(DISTANCE_SYMBOLS * NUMBER_BYTES, 16);
const lengthCounts: usize = memory.data((MAX_LENGTH + 1) * NUMBER_BYTES, 16);

let hashShift: i32 = 0;

/** The last token, which has no match. */
export let tokenEnd: usize = 0;

/** Forgets the chunk before. A small chunk has a small table, which is faster to clear. */
export function startMatches(plainBytes: i32): void {
  const neededBits = 32 - <i32>clz(plainBytes - 1);
  const bits = min(MAX_HASH_BITS, max(MIN_HASH_BITS, neededBits));
  hashShift = 32 - bits;
  memory.fill(places, 0, (<usize>NUMBER_BYTES) << bits);
}

function countOne(counts: usize, symbol: u32): void {
  const counter = counts + ((<usize>symbol) << 2);
  store<u32>(counter, load<u32>(counter) + 1);
}

function keyAt(place: i32): u32 {
  return load<u32>(PLAIN + place);
}

function bucketOf(key: u32): usize {
  return places + ((<usize>((key * HASH_FACTOR) >> hashShift)) << 2);
}

function note(bucket: usize, pair: u32, place: i32): void {
  store<u32>(bucket, (pair << PLACE_BITS) | (place & PLACE_MASK));
}

function noteAt(place: i32): void {
  const bucket = bucketOf(keyAt(place));
  note(bucket, load<u32>(bucket), place);
}

/** @returns how far before `place` another is, of which the lowest bits are known */
function distanceTo(place: i32, other: u32): i32 {
  return (place - other) & PLACE_MASK;
}

function isNear(distance: i32): bool {
  // No distance at all becomes the largest number.
  return <u32>(distance - 1) < MAX_DISTANCE;
}

/** @returns how many bytes are the same, at least the key, which is known to be */
function commonBytes(place: i32, distance: i32, limit: i32): i32 {
  let length = KEY_BYTES;
  for (; length < limit; length += LOAD_BYTES) {
    const here = PLAIN + place + length;
    const difference = load<u64>(here) ^ load<u64>(here - distance);
    if (difference !== 0) {
      length += <i32>(ctz(difference) >> 3);
      break;
    }
  }
  return min(length, limit);
}

/** @returns whether a match may have so many bytes; those in its middle are not compared */
function mayMatch(place: i32, distance: i32, leastBytes: i32): bool {
  // The bytes by which it would be long enough are the likeliest to differ.
  const last = place + leastBytes - KEY_BYTES;
  if (keyAt(last - distance) !== keyAt(last) || !isNear(distance)) return false;
  return keyAt(place - distance) === keyAt(place);
}

function addToken(token: usize, literals: i32, length: i32, distance: i32): void {
  const back: u32 = distance - 1;
  const symbol = distanceSymbol(back);
  store<u32>(token, literals);
  store<u32>(token + NUMBER_BYTES, (((symbol << LENGTH_BITS) | length) << BACK_BITS) | back);
  countOne(lengthCounts, length);
  countOne(distanceCounts, symbol);
}

/** Notes some places inside a match: more cost more time than they save bytes. */
function noteInside(place: i32, end: i32): void {
  noteAt(place + 1);
  noteAt(place + 2);
  noteAt(end - 3);
  noteAt(end - 2);
  noteAt(end - 1);
}

function countLiterals(from: i32, to: i32): void {
  for (let place = from; place < to; place++) countOne(literalCounts, load<u8>(PLAIN + place));
}

/** Takes so many bytes for literals without a look at them. @returns the place behind */
function passOver(place: i32, bytes: i32, end: i32): i32 {
  if (bytes === 0) return place;
  const next = min(place + bytes, end);
  countLiterals(place, next);
  return next;
}

function clearCounts(): void {
  memory.fill(literalCounts, 0, LITERAL_SYMBOLS * NUMBER_BYTES);
  memory.fill(distanceCounts, 0, DISTANCE_SYMBOLS * NUMBER_BYTES);
  memory.fill(lengthCounts, 0, (MAX_LENGTH + 1) * NUMBER_BYTES);
}

/** Counts the symbols of lengths: many lengths have one symbol. */
function countLengthSymbols(): void {
  for (let length = MIN_LENGTH; length <= MAX_LENGTH; length++) {
    const symbol = FIRST_LENGTH_SYMBOL + lengthSymbol(length);
    const counter = literalCounts + ((<usize>symbol) << 2);
    store<u32>(counter, load<u32>(counter) + load<u32>(lengthCounts + (length << 2)));
  }
}

/**
 * Finds the matches that lie in a part of the chunk; what they repeat may be before it.
 *
 * What lies behind the chunk has no say in it, so equal chunks have equal segments.
 */
export function findMatches(from: i32, to: i32): void {
  clearCounts();
  const end = to - KEY_BYTES + 1;
  let token = tokens;
  let place = from;
  let literals = from;
  let misses: i32 = 0;
  while (place < end) {
    const key = keyAt(place);
    const bucket = bucketOf(key);
    const pair = load<u32>(bucket);
    note(bucket, pair, place);
    let distance = distanceTo(place, pair);
    if (keyAt(place - distance) !== key || !isNear(distance)) {
      countOne(literalCounts, key & 255);
      misses += 1;
      place = passOver(place + 1, misses >> PATIENCE_BITS, end);
      continue;
    }
    misses = 0;
    const limit = min(MAX_LENGTH, to - place);
    let length = commonBytes(place, distance, limit);
    if (length < GOOD_LENGTH) {
      const second = distanceTo(place, pair >> PLACE_BITS);
      if (mayMatch(place, second, length + 1)) {
        const secondLength = commonBytes(place, second, limit);
        if (secondLength > length) {
          length = secondLength;
          distance = second;
        }
      }
    }
    if (length < EAGER_LENGTH && place + 1 < end) {
      const next = place + 1;
      const nextBucket = bucketOf(keyAt(next));
      const nextPair = load<u32>(nextBucket);
      const nextDistance = distanceTo(next, nextPair);
      if (mayMatch(next, nextDistance, length + MIN_GAIN)) {
        const nextLength = commonBytes(next, nextDistance, min(MAX_LENGTH, to - next));
        if (nextLength >= length + MIN_GAIN) {
          note(nextBucket, nextPair, next);
          countOne(literalCounts, key & 255);
          place = next;
          length = nextLength;
          distance = nextDistance;
        }
      }
    }
    addToken(token, place - literals, length, distance);
    token += TOKEN_BYTES;
    const matchEnd = place + length;
    if (matchEnd < end) noteInside(place, matchEnd);
    place = matchEnd;
    literals = matchEnd;
  }
  countLiterals(place, to);
  countLengthSymbols();
  store<u32>(token, to - literals);
  tokenEnd = token;
}
