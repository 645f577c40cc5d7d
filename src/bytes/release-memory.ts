import { Buffer } from 'node:buffer';

/**
 * Gives the memory of a large buffer back at once instead of leaving it to the collector, which
 * walks the whole heap for each 64 MB of buffers: a quarter of a daemon's time when it checks
 * chunks.
 *
 * @param bytes nobody else has a view into its memory; it is empty afterwards
 */
export function releaseMemory(bytes: Uint8Array): void {
  const { buffer } = bytes;
  // Small buffers share one that Node hands out in slices.
  if (buffer instanceof ArrayBuffer && buffer.byteLength > Buffer.poolSize) buffer.transfer(0);
}
