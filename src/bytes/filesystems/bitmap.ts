/**
 * Calls `onRun` for each run of set bits, in ascending order; bit 0 is the lowest of byte 0.
 *
 * @param bits how many bits count; the rest of the last byte is padding
 */
export function forEachRun(
  bitmap: Uint8Array,
  bits: number,
  onRun: (firstBit: number, endBit: number) => void,
): void {
  let start = -1;
  for (let bit = 0; bit < bits; ) {
    const byte = bitmap[bit >> 3] ?? 0;
    // Whole bytes of one kind are skipped at once: nearly all are.
    if ((bit & 7) === 0 && bit + 8 <= bits && (byte === 0 || byte === 0xff)) {
      if (byte === 0 && start >= 0) {
        onRun(start, bit);
        start = -1;
      } else if (byte === 0xff && start < 0) {
        start = bit;
      }
      bit += 8;
      continue;
    }
    const isSet = (byte & (1 << (bit & 7))) !== 0;
    if (isSet && start < 0) start = bit;
    if (!isSet && start >= 0) {
      onRun(start, bit);
      start = -1;
    }
    bit += 1;
  }
  if (start >= 0) onRun(start, bits);
}

/** Tells whether a bit is set; bit 0 is the lowest of byte 0. */
export function hasBit(bitmap: Uint8Array, bit: number): boolean {
  return ((bitmap[bit >> 3] ?? 0) & (1 << (bit & 7))) !== 0;
}
