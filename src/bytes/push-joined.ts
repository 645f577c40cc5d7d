/**
 * Adds bytes to a list, as one buffer with the last where they lie right behind it in the same
 * memory: a thousand segments that lie together are one write.
 */
export function pushJoined(buffers: Buffer[], bytes: Uint8Array): void {
  const last = buffers.at(-1);
  const isJoined =
    last !== undefined &&
    last.buffer === bytes.buffer &&
    last.byteOffset + last.byteLength === bytes.byteOffset;
  const from = isJoined ? last : bytes;
  const lengthBytes = isJoined ? last.byteLength + bytes.byteLength : bytes.byteLength;
  if (isJoined) buffers.pop();
  buffers.push(Buffer.from(from.buffer, from.byteOffset, lengthBytes));
}
