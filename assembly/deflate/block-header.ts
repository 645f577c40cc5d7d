/**
 * The header of a block with codes of its own: the lengths of the codes, coded themselves.
 *
 * @see RFC 1951 section 3.2.7
 */
import { putBits } from './bit-writer.ts';
import { CODE_MASK, codeLengths, LENGTH_SHIFT, prefixCodes } from './prefix-codes.ts';
import { NUMBER_BYTES } from './rooms.ts';
import { DISTANCE_SYMBOLS, FIRST_LENGTH_SYMBOL, LITERAL_SYMBOLS } from './symbols.ts';

/** Symbols of this code: lengths 0 to 15, the last length again, few zeros, many zeros. */
const HEADER_SYMBOLS: i32 = 19;
const AGAIN: u32 = 16;
const FEW_ZEROS: u32 = 17;
const MANY_ZEROS: u32 = 18;

const MAX_AGAIN: i32 = 6;
const MAX_FEW_ZEROS: i32 = 10;
const MAX_MANY_ZEROS: i32 = 138;
const MIN_REPEATED: i32 = 3;
const MIN_MANY_ZEROS: i32 = MAX_FEW_ZEROS + 1;

/** Bits that a repeat's symbol is followed by. */
const AGAIN_BITS: u32 = 2;
const FEW_ZEROS_BITS: u32 = 3;
const MANY_ZEROS_BITS: u32 = 7;

const MAX_HEADER_CODE_BITS: i32 = 7;

/** Bits of how many there are of each kind of code, and of the length of one of this code's codes. */
const COUNT_BITS: u32 = 5;
const HEADER_COUNT_BITS: u32 = 4;
const HEADER_LENGTH_BITS: u32 = 3;

/** A block that is not the last (0) and has codes of its own (10), from the lowest bit. */
const BLOCK_TYPE: u64 = 0b100;
const BLOCK_TYPE_BITS: u32 = 3;

/** There are always so many codes of this code, of distances and of literals. */
const MIN_HEADER_CODES: i32 = 4;
const MIN_DISTANCE_CODES: i32 = 1;
const MIN_LITERAL_CODES: i32 = FIRST_LENGTH_SYMBOL;

/** The order in which the lengths of this code are written: those that come seldom are last. */
const order: usize = memory.data<u8>([
  16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
]);

/** Lengths of the codes of the block: of literals and lengths, and behind them of distances. */
export const literalLengths: usize = memory.data(LITERAL_SYMBOLS + DISTANCE_SYMBOLS, 16);
export const distanceLengths: usize = memory.data(DISTANCE_SYMBOLS, 16);
const lengths: usize = memory.data(LITERAL_SYMBOLS + DISTANCE_SYMBOLS, 16);

/** The symbols of this code: symbol, value of the extra bits, their count; a byte each. */
const steps: usize = memory.data((LITERAL_SYMBOLS + DISTANCE_SYMBOLS) * NUMBER_BYTES, 16);
const VALUE_SHIFT: u32 = 8;
const COUNT_SHIFT: u32 = 16;
const BYTE: u32 = 255;

const stepCounts: usize = memory.data(HEADER_SYMBOLS * NUMBER_BYTES, 16);
const stepLengths: usize = memory.data(HEADER_SYMBOLS, 16);
const stepCodes: usize = memory.data(HEADER_SYMBOLS * NUMBER_BYTES, 16);

let stepTotal: i32 = 0;
let literalCodes: i32 = 0;
let distanceCodes: i32 = 0;
let headerCodes: i32 = 0;

function addStep(symbol: u32, value: u32, count: u32): void {
  store<u32>(
    steps + ((<usize>stepTotal) << 2),
    symbol | (value << VALUE_SHIFT) | (count << COUNT_SHIFT),
  );
  stepTotal += 1;
  const counter = stepCounts + ((<usize>symbol) << 2);
  store<u32>(counter, load<u32>(counter) + 1);
}

/** Says that a length comes so many times in a row. */
function addRun(length: u32, times: i32): void {
  let left = times;
  if (length === 0) {
    for (; left >= MIN_MANY_ZEROS; ) {
      const zeros = min(left, MAX_MANY_ZEROS);
      addStep(MANY_ZEROS, zeros - MIN_MANY_ZEROS, MANY_ZEROS_BITS);
      left -= zeros;
    }
    if (left >= MIN_REPEATED) {
      addStep(FEW_ZEROS, left - MIN_REPEATED, FEW_ZEROS_BITS);
      left = 0;
    }
  } else {
    addStep(length, 0, 0);
    left -= 1;
    for (; left >= MIN_REPEATED; ) {
      const again = min(left, MAX_AGAIN);
      addStep(AGAIN, again - MIN_REPEATED, AGAIN_BITS);
      left -= again;
    }
  }
  for (; left > 0; left--) addStep(length, 0, 0);
}

function addRuns(total: i32): void {
  for (let at: i32 = 0; at < total; ) {
    const length: u32 = load<u8>(lengths + at);
    let times: i32 = 1;
    while (at + times < total && load<u8>(lengths + at + times) === length) times += 1;
    addRun(length, times);
    at += times;
  }
}

/** @returns how many codes there are before those at the end that have no length */
function usedCodes(from: usize, total: i32, least: i32): i32 {
  let used = total;
  while (used > least && load<u8>(from + used - 1) === 0) used -= 1;
  return used;
}

function headerLength(place: i32): u32 {
  return load<u8>(stepLengths + load<u8>(order + place));
}

/**
 * Makes the header of a block from the lengths of its codes.
 *
 * @returns how many bits it has
 */
export function planHeader(): i32 {
  literalCodes = usedCodes(literalLengths, LITERAL_SYMBOLS, MIN_LITERAL_CODES);
  distanceCodes = usedCodes(distanceLengths, DISTANCE_SYMBOLS, MIN_DISTANCE_CODES);
  memory.copy(lengths, literalLengths, literalCodes);
  memory.copy(lengths + literalCodes, distanceLengths, distanceCodes);
  memory.fill(stepCounts, 0, HEADER_SYMBOLS * NUMBER_BYTES);
  stepTotal = 0;
  addRuns(literalCodes + distanceCodes);
  codeLengths(stepCounts, HEADER_SYMBOLS, stepLengths, MAX_HEADER_CODE_BITS);
  prefixCodes(stepLengths, HEADER_SYMBOLS, stepCodes);
  headerCodes = HEADER_SYMBOLS;
  while (headerCodes > MIN_HEADER_CODES && headerLength(headerCodes - 1) === 0) headerCodes -= 1;
  let bits: i32 = BLOCK_TYPE_BITS + 2 * COUNT_BITS + HEADER_COUNT_BITS;
  bits += headerCodes * HEADER_LENGTH_BITS;
  for (let i: i32 = 0; i < stepTotal; i++) {
    const step = load<u32>(steps + ((<usize>i) << 2));
    bits += load<u8>(stepLengths + (step & BYTE)) + (step >> COUNT_SHIFT);
  }
  return bits;
}

/** Writes the header that was planned. */
export function writeHeader(): void {
  putBits(BLOCK_TYPE, BLOCK_TYPE_BITS);
  putBits(literalCodes - MIN_LITERAL_CODES, COUNT_BITS);
  putBits(distanceCodes - MIN_DISTANCE_CODES, COUNT_BITS);
  putBits(headerCodes - MIN_HEADER_CODES, HEADER_COUNT_BITS);
  for (let i: i32 = 0; i < headerCodes; i++) putBits(headerLength(i), HEADER_LENGTH_BITS);
  for (let i: i32 = 0; i < stepTotal; i++) {
    const step = load<u32>(steps + ((<usize>i) << 2));
    const code = load<u32>(stepCodes + ((step & BYTE) << 2));
    putBits(code & CODE_MASK, code >> LENGTH_SHIFT);
    putBits((step >> VALUE_SHIFT) & BYTE, step >> COUNT_SHIFT);
  }
}
