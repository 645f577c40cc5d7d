/**
 * CRC-32 (RFC 1952, reflected polynomial EDB88320) of bytes joined end to end, from the CRCs of the
 * parts.
 *
 * A CRC is a polynomial over GF(2) with the lowest power in the top bit. To append n bytes is to
 * multiply it with x^(8n) modulo the CRC's polynomial, so 32 shifts per part are all it takes once
 * x^(8n) is known; that is kept per length, for chunks come in few lengths.
 */
const POLYNOMIAL = 0xedb88320;

/** The polynomial 1. */
const ONE = 0x80000000;

/** Longer tables than this mean that the lengths are not those of chunks; it starts anew then. */
const MAX_KEPT_LENGTHS = 4096;

/** x^(2^i) for i = 0 to 31. The period of x is 2^32 - 1, so x^(2^32) = x and the table repeats. */
const SQUARES = makeSquares();

const powersByLength = new Map<number, number>();

/** Multiplies two polynomials modulo the CRC's. */
function multiply(a: number, b: number): number {
  let product = 0;
  let rest = b;
  for (let bit = ONE; bit !== 0; bit >>>= 1) {
    if ((a & bit) !== 0) product ^= rest;
    rest = (rest & 1) !== 0 ? (rest >>> 1) ^ POLYNOMIAL : rest >>> 1;
  }
  return product >>> 0;
}

function makeSquares(): Uint32Array {
  const squares = new Uint32Array(32);
  let power = ONE >>> 1;
  for (let i = 0; i < 32; i++) {
    squares[i] = power;
    power = multiply(power, power);
  }
  return squares;
}

/** @returns x^(8 * lengthBytes) */
function powerOf(lengthBytes: number): number {
  const known = powersByLength.get(lengthBytes);
  if (known !== undefined) return known;
  let power = ONE;
  // Division instead of shifts: lengths go beyond 32 bits.
  for (let n = lengthBytes, i = 3; n > 0; n = Math.floor(n / 2), i++) {
    if (n % 2 === 1) power = multiply(SQUARES[i % 32] ?? 0, power);
  }
  if (powersByLength.size >= MAX_KEPT_LENGTHS) powersByLength.clear();
  powersByLength.set(lengthBytes, power);
  return power;
}

/**
 * Gives the CRC-32 of two runs of bytes joined end to end.
 *
 * @param first CRC-32 of the first run; 0 when it is empty
 * @param second CRC-32 of the second run
 * @param secondBytes length of the second run, up to 2^53
 */
export function combineCrc32(first: number, second: number, secondBytes: number): number {
  return (multiply(powerOf(secondBytes), first) ^ second) >>> 0;
}

/** @returns the CRC-32 of `lengthBytes` zero bytes */
export function crc32OfZeros(lengthBytes: number): number {
  return (multiply(powerOf(lengthBytes), 0xffffffff) ^ 0xffffffff) >>> 0;
}
