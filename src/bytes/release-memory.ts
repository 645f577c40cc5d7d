import { Buffer } from 'node:buffer';

/** Smaller ones are not worth a call. */
const MIN_BYTES = 4096;

/**
 * Gives the memory of a large buffer back at once instead of leaving it to the collector, which
 * walks the whole heap for each 64 MB of buffers: a quarter of a daemon's time when it checks
 * chunks.
 *
 * @param bytes nobody else has a view into its memory; it is empty afterwards
 */
export function releaseMemory(bytes: Uint8Array): void {
  const { buffer } = bytes;
  if (!(buffer instanceof ArrayBuffer) || buffer.byteLength < MIN_BYTES) return;
  try {
    buffer.transfer(0);
  } catch (thrown) {
    // Node hands small buffers out as slices of one that has just this length and refuses to go. A
    // read of a pipe or socket has the same length, and goes.
    if (buffer.byteLength !== Buffer.poolSize) throw thrown;
  }
}
