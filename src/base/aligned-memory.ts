/** Suits every logical block size and the DMA alignment of common drivers. */
export const ALIGNMENT_BYTES = 4096;

/**
 * Makes memory whose first byte has an address that O_DIRECT takes.
 *
 * Only native code knows addresses, so whoever has it says how to ask.
 *
 * @param addressOf gives the address of a buffer's first byte
 * @param make gives a buffer of a length
 * @see open(2) O_DIRECT
 */
export function alignedMemory<T extends ArrayBufferLike>(
  lengthBytes: number,
  addressOf: (buffer: Buffer<T>) => bigint,
  make: (lengthBytes: number) => Buffer<T>,
): Buffer<T> {
  const room = make(lengthBytes + ALIGNMENT_BYTES);
  const past = Number(addressOf(room) % BigInt(ALIGNMENT_BYTES));
  const skip = (ALIGNMENT_BYTES - past) % ALIGNMENT_BYTES;
  return room.subarray(skip, skip + lengthBytes);
}
