import { createHash } from 'node:crypto';
import { type Digest, IngotError } from '../../base/index.ts';
import {
  combineCrc32,
  crc32OfZeros,
  type PageEntry,
  zeroSegmentsBytes,
} from '../../bytes/index.ts';
import type { ChunkPlace, PageLayout } from './catalogue.ts';

/**
 * Measures a page as segments.
 *
 * @param places one per chunk of `entries`, in their order
 * @throws IngotError `manifest-invalid` when a chunk has another length than its entry
 */
export function layoutOf(entries: readonly PageEntry[], places: readonly ChunkPlace[]): PageLayout {
  const tag = createHash('sha256');
  const numbers = Buffer.alloc(8);
  let codedBytes = 0;
  let plainCrc32 = 0;
  let next = 0;
  for (const entry of entries) {
    const { lengthBytes } = entry;
    if (entry.kind === 'hole') {
      codedBytes += zeroSegmentsBytes(lengthBytes);
      plainCrc32 = combineCrc32(plainCrc32, crc32OfZeros(lengthBytes), lengthBytes);
      continue;
    }
    const place = places[next++];
    if (place === undefined || place.digest !== entry.digest) {
      throw new RangeError(`the places are not those of the page at ${entry.digest}`);
    }
    if (place.plainBytes !== lengthBytes) {
      throw new IngotError(
        'manifest-invalid',
        `the manifest gives the chunk ${entry.digest} ${lengthBytes} bytes; it has ${place.plainBytes}`,
        { digest: entry.digest },
      );
    }
    codedBytes += place.codedBytes;
    plainCrc32 = combineCrc32(plainCrc32, place.plainCrc32, lengthBytes);
    numbers.writeUInt32LE(place.codedBytes, 0);
    numbers.writeUInt32LE(place.codedCrc32, 4);
    tag.update(entry.digest, 'hex').update(numbers);
  }
  return { codedBytes, plainCrc32, codedTag: tag.digest('hex') as Digest };
}

/** @returns digests of the chunks among `entries`, in their order, repeated where they repeat */
export function chunksOf(entries: readonly PageEntry[]): Digest[] {
  return entries.flatMap((entry) => (entry.kind === 'chunk' ? [entry.digest] : []));
}
