import { open } from 'node:fs/promises';

const PIECE_BYTES = 1024 * 1024;

/** Tells whether two files have the same bytes. */
export async function isSameFile(one: string, other: string): Promise<boolean> {
  await using a = await open(one);
  await using b = await open(other);
  const [sizeA, sizeB] = [(await a.stat()).size, (await b.stat()).size];
  if (sizeA !== sizeB) return false;
  for (let at = 0; at < sizeA; at += PIECE_BYTES) {
    const length = Math.min(PIECE_BYTES, sizeA - at);
    const [left, right] = [Buffer.alloc(length), Buffer.alloc(length)];
    await a.read(left, 0, length, at);
    await b.read(right, 0, length, at);
    if (!left.equals(right)) return false;
  }
  return true;
}
