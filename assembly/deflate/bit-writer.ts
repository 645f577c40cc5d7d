/**
 * Writes bits, the first into the lowest bit of a byte.
 *
 * Hot loops hold the three numbers in variables of their own and hand them back.
 */

/** Bits that are not written yet: fewer than eight. */
export let pendingBits: u64 = 0;
export let pendingCount: u64 = 0;

/** Where the next byte goes. */
export let bitTarget: usize = 0;

export function resumeBits(bits: u64, count: u64, target: usize): void {
  pendingBits = bits;
  pendingCount = count;
  bitTarget = target;
}

/** @param count 0 to 56 */
export function putBits(value: u64, count: u64): void {
  const bits = pendingBits | (value << pendingCount);
  const total = pendingCount + count;
  store<u64>(bitTarget, bits);
  bitTarget += <usize>(total >> 3);
  pendingBits = bits >> (total & ~7);
  pendingCount = total & 7;
}

/** Ends a byte that has begun. */
export function alignBits(): void {
  if (pendingCount > 0) bitTarget += 1;
  pendingBits = 0;
  pendingCount = 0;
}
