/** What chunks of one length would store: the rule that most backup tools of disks have. */
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { type ByteReader, type Extent, readDiskMap } from '../src/bytes/index.ts';
import { openFastestCodec } from '../src/keep/adapters/fastest-segment-codec.ts';

const CHUNK_BYTES = 128 * 1024;

/** Chunks of 128 KiB, each kept once and coded as Ingot codes its own. */
export class FixedChunks {
  readonly #known = new Set<string>();

  /** Adds an image, free blocks as zeros. @returns coded bytes of its chunks that are new */
  async add(image: string): Promise<number> {
    await using file = await open(image, 'r');
    const { size } = await file.stat();
    const reader: ByteReader = {
      sizeBytes: size,
      read: async (offset, length) =>
        (await file.read(Buffer.alloc(length), 0, length, offset)).buffer,
    };
    const { allocated } = await readDiskMap(reader);
    const { codec } = await openFastestCodec();
    let added = 0;
    for (let at = 0, first = 0; at < size; at += CHUNK_BYTES) {
      while (endOf(allocated[first]) <= at) first += 1;
      const chunk = await readMasked(reader, allocated, first, at);
      if (chunk === undefined || chunk.every((byte) => byte === 0)) continue;
      const name = createHash('sha256').update(chunk).digest('base64');
      if (this.#known.has(name)) continue;
      this.#known.add(name);
      added += (await codec.encode(chunk)).length;
    }
    return added;
  }
}

function endOf(extent: Extent | undefined): number {
  return extent === undefined ? Number.POSITIVE_INFINITY : extent.offsetBytes + extent.lengthBytes;
}

/** @returns undefined for a chunk without an allocated byte */
async function readMasked(
  reader: ByteReader,
  extents: readonly Extent[],
  first: number,
  at: number,
): Promise<Buffer | undefined> {
  const end = Math.min(at + CHUNK_BYTES, reader.sizeBytes);
  const chunk = Buffer.alloc(end - at);
  let isUsed = false;
  for (let i = first; i < extents.length; i++) {
    const { offsetBytes = end, lengthBytes = 0 } = extents[i] ?? {};
    if (offsetBytes >= end) break;
    const from = Math.max(at, offsetBytes);
    const until = Math.min(end, offsetBytes + lengthBytes);
    (await reader.read(from, until - from)).copy(chunk, from - at);
    isUsed = true;
  }
  return isUsed ? chunk : undefined;
}
