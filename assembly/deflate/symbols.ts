/**
 * Symbols of deflate for lengths and distances.
 *
 * @see RFC 1951 section 3.2.5
 */

/** The shortest and the longest length that deflate has. */
export const MIN_LENGTH: i32 = 3;
export const MAX_LENGTH: i32 = 258;

/** Symbols of literals and lengths: the literals, the end of a block, the lengths. */
export const END_OF_BLOCK: i32 = 256;
export const FIRST_LENGTH_SYMBOL: i32 = 257;
export const LITERAL_SYMBOLS: i32 = 286;

/** Symbols of distances. */
export const DISTANCE_SYMBOLS: i32 = 30;

/** The symbol of {@link MAX_LENGTH}, which has no extra bits, though its neighbours have five. */
const LONGEST: u32 = 28;

/** @returns the symbol of a length, without {@link FIRST_LENGTH_SYMBOL} */
export function lengthSymbol(length: i32): u32 {
  if (length === MAX_LENGTH) return LONGEST;
  const rest: u32 = length - MIN_LENGTH;
  if (rest < 8) return rest;
  // Four symbols for each power of two: the two bits below the highest tell which.
  const power = 31 - clz(rest);
  return ((power - 1) << 2) | ((rest >> (power - 2)) & 3);
}

/** @returns how many bits follow a length's symbol */
export function lengthExtraBits(symbol: u32): u32 {
  return symbol < 8 || symbol === LONGEST ? 0 : (symbol >> 2) - 1;
}

/** @returns what follows a length's symbol */
export function lengthExtra(length: i32): u32 {
  const bits = lengthExtraBits(lengthSymbol(length));
  return <u32>(length - MIN_LENGTH) & ((1 << bits) - 1);
}

/** @param back the distance less one */
export function distanceSymbol(back: u32): u32 {
  if (back < 4) return back;
  // Two symbols for each power of two: the bit below the highest tells which.
  const power = 31 - clz(back);
  return (power << 1) | ((back >> (power - 1)) & 1);
}

/** @returns how many bits follow a distance's symbol: the lowest ones of the distance less one */
export function distanceExtraBits(symbol: u32): u32 {
  return symbol < 4 ? 0 : (symbol >> 1) - 1;
}
