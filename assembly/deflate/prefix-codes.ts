/**
 * Makes prefix codes: from how often symbols come, the length of each one's code and its bits.
 */
import { NUMBER_BYTES } from './rooms.ts';

const MAX_SYMBOLS: i32 = 288;

/** Low bits of a sorting key, below the count: the symbol. */
const SYMBOL_BITS: u32 = 9;
const SYMBOL_MASK: u32 = (1 << SYMBOL_BITS) - 1;

/** Bits of a code before its length, in a number of `CODES`. */
export const LENGTH_SHIFT: u32 = 16;
export const CODE_MASK: u32 = (1 << LENGTH_SHIFT) - 1;

const MAX_CODE_BITS: i32 = 15;

/** Keys of the symbols that come at all, the rarest first. */
const sorted: usize = memory.data(MAX_SYMBOLS * NUMBER_BYTES, 16);

/** Nodes of the tree: the leaves in the order of `sorted`, then the inner ones as they are made. */
const weights: usize = memory.data(2 * MAX_SYMBOLS * NUMBER_BYTES, 16);
const parents: usize = memory.data(2 * MAX_SYMBOLS * NUMBER_BYTES, 16);
const depths: usize = memory.data(2 * MAX_SYMBOLS * NUMBER_BYTES, 16);

/** How many codes have each length, and the next code of each. */
const lengthCounts: usize = memory.data((MAX_CODE_BITS + 1) * NUMBER_BYTES, 16);
const nextCodes: usize = memory.data((MAX_CODE_BITS + 1) * NUMBER_BYTES, 16);

function get(array: usize, index: i32): u32 {
  return load<u32>(array + ((<usize>index) << 2));
}

function set(array: usize, index: i32, value: u32): void {
  store<u32>(array + ((<usize>index) << 2), value);
}

function add(array: usize, index: i32, value: u32): void {
  set(array, index, get(array, index) + value);
}

/** @returns how many symbols come at all; their keys are in `sorted` */
function sortSymbols(counts: usize, symbols: i32): i32 {
  let used: i32 = 0;
  for (let symbol: i32 = 0; symbol < symbols; symbol++) {
    const count = get(counts, symbol);
    if (count > 0) set(sorted, used++, (count << SYMBOL_BITS) | <u32>symbol);
  }
  // A shell sort with gaps after Tokuda: few symbols, and often nearly as many times each.
  for (let gap = firstGap(used); gap > 0; gap = (gap * 4) / 9) {
    for (let i = gap; i < used; i++) {
      const key = get(sorted, i);
      let at = i;
      for (; at >= gap && get(sorted, at - gap) > key; at -= gap) {
        set(sorted, at, get(sorted, at - gap));
      }
      set(sorted, at, key);
    }
  }
  return used;
}

function firstGap(count: i32): i32 {
  return count > 103 ? 103 : count > 46 ? 46 : 9;
}

/** Joins the two lightest nodes until one is left. Two queues do: inner nodes are made in order. */
function joinNodes(used: i32): void {
  let leaf: i32 = 0;
  let inner = used;
  for (let made = used; made < 2 * used - 1; made++) {
    let weight: u32 = 0;
    for (let i = 0; i < 2; i++) {
      const isLeaf = leaf < used && (inner >= made || get(weights, leaf) <= get(weights, inner));
      const lightest = isLeaf ? leaf++ : inner++;
      weight += get(weights, lightest);
      set(parents, lightest, made);
    }
    set(weights, made, weight);
  }
}

/** Counts how deep the leaves are; those below the limit are taken to be at it. */
function countDepths(used: i32, maxBits: i32): void {
  memory.fill(lengthCounts, 0, (MAX_CODE_BITS + 1) * NUMBER_BYTES);
  const root = 2 * used - 2;
  set(depths, root, 0);
  for (let node = root - 1; node >= 0; node--) {
    const depth = get(depths, get(parents, node)) + 1;
    set(depths, node, depth);
    if (node < used) add(lengthCounts, min(<i32>depth, maxBits), 1);
  }
}

/**
 * Makes a code possible again after leaves were lifted to the limit: as long as there are too many
 * codes, one that is shorter gets a bit more, and one of the longest takes its other half.
 */
function lengthenCodes(maxBits: i32): void {
  let taken: u32 = 0;
  for (let bits: i32 = 1; bits <= maxBits; bits++) {
    taken += get(lengthCounts, bits) << (maxBits - bits);
  }
  for (; taken > <u32>(1 << maxBits); taken--) {
    let bits = maxBits - 1;
    while (get(lengthCounts, bits) === 0) bits -= 1;
    add(lengthCounts, bits, -1);
    add(lengthCounts, bits + 1, 2);
    add(lengthCounts, maxBits, -1);
  }
}

/**
 * Gives each symbol the length of its code, as short as they can be together or nearly so.
 *
 * A symbol that comes alone has one bit: decoders take a code of one symbol only if it does.
 *
 * @param counts how often each symbol comes; the sum is below 2^23
 * @param lengths takes one byte for each symbol: 0 if it never comes
 * @param maxBits no code is longer, 7 to 15
 */
export function codeLengths(counts: usize, symbols: i32, lengths: usize, maxBits: i32): void {
  memory.fill(lengths, 0, symbols);
  const used = sortSymbols(counts, symbols);
  if (used === 0) return;
  if (used === 1) {
    store<u8>(lengths + (get(sorted, 0) & SYMBOL_MASK), 1);
    return;
  }
  for (let i: i32 = 0; i < used; i++) set(weights, i, get(sorted, i) >> SYMBOL_BITS);
  joinNodes(used);
  countDepths(used, maxBits);
  lengthenCodes(maxBits);
  let next: i32 = 0;
  for (let bits = maxBits; bits > 0; bits--) {
    for (let left = get(lengthCounts, bits); left > 0; left--) {
      store<u8>(lengths + (get(sorted, next++) & SYMBOL_MASK), <u8>bits);
    }
  }
}

/** @returns the lowest `count` bits the other way round: codes are written from their highest bit */
function reversed(code: u32, count: u32): u32 {
  let bits = ((code & 0x5555) << 1) | ((code >> 1) & 0x5555);
  bits = ((bits & 0x3333) << 2) | ((bits >> 2) & 0x3333);
  bits = ((bits & 0x0f0f) << 4) | ((bits >> 4) & 0x0f0f);
  bits = ((bits & 0x00ff) << 8) | (bits >> 8);
  return bits >> (16 - count);
}

/**
 * Gives each symbol its code, which follows from the lengths.
 *
 * @param codes takes a number for each symbol: the code as it is written, the length above
 * @see RFC 1951 section 3.2.2
 */
export function prefixCodes(lengths: usize, symbols: i32, codes: usize): void {
  memory.fill(lengthCounts, 0, (MAX_CODE_BITS + 1) * NUMBER_BYTES);
  for (let symbol: i32 = 0; symbol < symbols; symbol++) {
    add(lengthCounts, load<u8>(lengths + symbol), 1);
  }
  set(lengthCounts, 0, 0);
  let code: u32 = 0;
  for (let bits: i32 = 1; bits <= MAX_CODE_BITS; bits++) {
    code = (code + get(lengthCounts, bits - 1)) << 1;
    set(nextCodes, bits, code);
  }
  for (let symbol: i32 = 0; symbol < symbols; symbol++) {
    const bits: u32 = load<u8>(lengths + symbol);
    if (bits === 0) {
      set(codes, symbol, 0);
      continue;
    }
    const own = get(nextCodes, bits);
    set(nextCodes, bits, own + 1);
    set(codes, symbol, reversed(own, bits) | (bits << LENGTH_SHIFT));
  }
}
