/** Writes what was found in a part of the chunk as one block with codes of its own. */
import { bitTarget, pendingBits, pendingCount, putBits, resumeBits } from './bit-writer.ts';
import { distanceLengths, literalLengths, planHeader, writeHeader } from './block-header.ts';
import {
  distanceCounts,
  literalCounts,
  TOKEN_BYTES,
  tokenBack,
  tokenDistanceSymbol,
  tokenEnd,
  tokenLength,
  tokens,
} from './matches.ts';
import { CODE_MASK, codeLengths, LENGTH_SHIFT, prefixCodes } from './prefix-codes.ts';
import { NUMBER_BYTES, PLAIN } from './rooms.ts';
import {
  DISTANCE_SYMBOLS,
  distanceExtraBits,
  END_OF_BLOCK,
  FIRST_LENGTH_SYMBOL,
  LITERAL_SYMBOLS,
  lengthExtra,
  lengthExtraBits,
  lengthSymbol,
  MAX_LENGTH,
  MIN_LENGTH,
} from './symbols.ts';

/** Deflate's limit is 15; four literals of 14 bits go into one number with 7 bits that are left. */
const MAX_LITERAL_BITS: i32 = 14;
const LITERALS_AT_ONCE: i32 = 4;
const MAX_DISTANCE_BITS: i32 = 15;

const literalCodes: usize = memory.data(LITERAL_SYMBOLS * NUMBER_BYTES, 16);
const distanceCodes: usize = memory.data(DISTANCE_SYMBOLS * NUMBER_BYTES, 16);

/** For each length its code and its extra bits as they are written, and above them how many. */
const lengthBits: usize = memory.data((MAX_LENGTH + 1) * NUMBER_BYTES, 16);
const LENGTH_BITS_SHIFT: u32 = 24;
const LENGTH_BITS_MASK: u32 = (1 << LENGTH_BITS_SHIFT) - 1;

/** Bits of a number that are whole bytes, and of a byte. */
const WHOLE_BYTES: u64 = ~7;
const BELOW_A_BYTE: u64 = 7;
const BYTE_SHIFT: u64 = 3;

function symbolBits(counts: usize, lengths: usize, symbol: i32, extraBits: u32): i32 {
  const count = load<u32>(counts + ((<usize>symbol) << 2));
  return count * (load<u8>(lengths + symbol) + extraBits);
}

/**
 * Makes the codes of a block from how often its symbols come.
 *
 * @returns how many bits the block will have, exactly
 */
export function planBlock(): i32 {
  store<u32>(literalCounts + END_OF_BLOCK * NUMBER_BYTES, 1);
  codeLengths(literalCounts, LITERAL_SYMBOLS, literalLengths, MAX_LITERAL_BITS);
  codeLengths(distanceCounts, DISTANCE_SYMBOLS, distanceLengths, MAX_DISTANCE_BITS);
  let bits = planHeader();
  for (let symbol: i32 = 0; symbol < FIRST_LENGTH_SYMBOL; symbol++) {
    bits += symbolBits(literalCounts, literalLengths, symbol, 0);
  }
  for (let symbol = FIRST_LENGTH_SYMBOL; symbol < LITERAL_SYMBOLS; symbol++) {
    const extraBits = lengthExtraBits(symbol - FIRST_LENGTH_SYMBOL);
    bits += symbolBits(literalCounts, literalLengths, symbol, extraBits);
  }
  for (let symbol: i32 = 0; symbol < DISTANCE_SYMBOLS; symbol++) {
    bits += symbolBits(distanceCounts, distanceLengths, symbol, distanceExtraBits(symbol));
  }
  return bits;
}

function fillLengthBits(): void {
  for (let length = MIN_LENGTH; length <= MAX_LENGTH; length++) {
    const symbol = lengthSymbol(length);
    const code = load<u32>(literalCodes + ((<usize>(FIRST_LENGTH_SYMBOL + symbol)) << 2));
    const codeBits = code >> LENGTH_SHIFT;
    const bits = (code & CODE_MASK) | (lengthExtra(length) << codeBits);
    const count = codeBits + lengthExtraBits(symbol);
    store<u32>(lengthBits + (length << 2), bits | (count << LENGTH_BITS_SHIFT));
  }
}

function literalCode(address: usize): u64 {
  return load<u32>(literalCodes + ((<usize>load<u8>(address)) << 2));
}

/** @returns no bits at all if there is no such literal; the byte may lie behind the chunk then */
function literalIf(isThere: bool, address: usize): u64 {
  return select<u64>(literalCode(address), 0, isThere);
}

/**
 * Writes the block that was planned.
 *
 * @param from where its part of the chunk begins
 */
export function writeBlock(from: i32): void {
  prefixCodes(literalLengths, LITERAL_SYMBOLS, literalCodes);
  prefixCodes(distanceLengths, DISTANCE_SYMBOLS, distanceCodes);
  fillLengthBits();
  writeHeader();
  // The numbers of the bit writer, which are faster as variables of this loop.
  let bits = pendingBits;
  let count = pendingCount;
  let target = bitTarget;
  let plain: usize = PLAIN + from;
  for (let token = tokens; ; token += TOKEN_BYTES) {
    const end = plain + load<u32>(token);
    for (; plain + LITERALS_AT_ONCE <= end; plain += LITERALS_AT_ONCE) {
      const first = literalCode(plain);
      const second = literalCode(plain + 1);
      const third = literalCode(plain + 2);
      const fourth = literalCode(plain + 3);
      bits |= (first & CODE_MASK) << count;
      count += first >> LENGTH_SHIFT;
      bits |= (second & CODE_MASK) << count;
      count += second >> LENGTH_SHIFT;
      bits |= (third & CODE_MASK) << count;
      count += third >> LENGTH_SHIFT;
      bits |= (fourth & CODE_MASK) << count;
      count += fourth >> LENGTH_SHIFT;
      store<u64>(target, bits);
      target += <usize>(count >> BYTE_SHIFT);
      bits >>= count & WHOLE_BYTES;
      count &= BELOW_A_BYTE;
    }
    // At most three are left. No branch asks how many: it would be foreseen wrongly every other time.
    const left = end - plain;
    const first = literalIf(left > 0, plain);
    const second = literalIf(left > 1, plain + 1);
    const third = literalIf(left > 2, plain + 2);
    bits |= (first & CODE_MASK) << count;
    count += first >> LENGTH_SHIFT;
    bits |= (second & CODE_MASK) << count;
    count += second >> LENGTH_SHIFT;
    bits |= (third & CODE_MASK) << count;
    count += third >> LENGTH_SHIFT;
    plain = end;
    store<u64>(target, bits);
    target += <usize>(count >> BYTE_SHIFT);
    bits >>= count & WHOLE_BYTES;
    count &= BELOW_A_BYTE;
    if (token === tokenEnd) break;

    // At most 19 bits for the length and 28 for the distance, beside 7 that are left.
    const match = load<u32>(token + NUMBER_BYTES);
    const length = tokenLength(match);
    const whole: u64 = load<u32>(lengthBits + (length << 2));
    bits |= (whole & LENGTH_BITS_MASK) << count;
    count += whole >> LENGTH_BITS_SHIFT;
    const symbol = tokenDistanceSymbol(match);
    const code: u64 = load<u32>(distanceCodes + (symbol << 2));
    bits |= (code & CODE_MASK) << count;
    count += code >> LENGTH_SHIFT;
    const extraBits: u64 = distanceExtraBits(symbol);
    const back: u64 = tokenBack(match);
    bits |= (back & ((1 << extraBits) - 1)) << count;
    count += extraBits;
    store<u64>(target, bits);
    target += <usize>(count >> BYTE_SHIFT);
    bits >>= count & WHOLE_BYTES;
    count &= BELOW_A_BYTE;
    plain += length;
  }
  resumeBits(bits, count, target);
  writeEnd();
}

function writeEnd(): void {
  const code = load<u32>(literalCodes + END_OF_BLOCK * NUMBER_BYTES);
  putBits(code & CODE_MASK, code >> LENGTH_SHIFT);
}
