const memories = new WeakSet<ArrayBufferLike>();

/**
 * Makes memory that is all zeros, for holes: whoever is given it, or a part of it, need not look.
 *
 * @param allocate gives memory of its own, not a part of somebody's
 * @returns a buffer that nobody may write to
 */
export function makeZeros(allocate: (sizeBytes: number) => Buffer, sizeBytes: number): Buffer {
  const zeros = allocate(sizeBytes).fill(0);
  memories.add(zeros.buffer);
  return zeros;
}

/** Whether bytes are of memory that {@link makeZeros} made. Others may be zeros too. */
export function isKnownZeros(bytes: Buffer): boolean {
  return memories.has(bytes.buffer);
}
