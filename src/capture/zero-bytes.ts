/** Zeros to compare with and to write. */
export const ZEROS: Buffer = Buffer.alloc(1024 * 1024);

/** @returns whether all bytes are zero */
export function isZero(bytes: Buffer): boolean {
  for (let at = 0; at < bytes.length; at += ZEROS.length) {
    const piece = bytes.subarray(at, at + ZEROS.length);
    if (!piece.equals(ZEROS.subarray(0, piece.length))) return false;
  }
  return true;
}
