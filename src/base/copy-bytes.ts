import { Buffer } from 'node:buffer';

/**
 * Copies bytes. `set`, and a copy of a whole buffer, take some times as long where threads share the
 * memory of one of them: V8 then moves one word after another.
 *
 * @param at where they go in `target`, which has room for all of them
 */
export function copyBytes(target: Uint8Array, at: number, source: Uint8Array): void {
  const { buffer, byteOffset, byteLength } = source;
  Buffer.from(buffer).copy(target, at, byteOffset, byteOffset + byteLength);
}
