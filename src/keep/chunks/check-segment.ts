import { crc32 } from 'node:zlib';
import { digestOf, IngotError } from '../../base/index.ts';
import {
  MAX_CHUNK_BYTES,
  MAX_CODED_BYTES,
  releaseMemory,
  type Segment,
} from '../../bytes/index.ts';
import type { SegmentCodec } from './segment-codec.ts';

/**
 * Inflates a segment and compares everything that it claims.
 *
 * @throws IngotError `segment-malformed`
 */
export async function checkSegment(codec: SegmentCodec, segment: Segment): Promise<void> {
  const { digest, plainBytes, coded } = segment;
  if (!Number.isInteger(plainBytes) || plainBytes < 1 || plainBytes > MAX_CHUNK_BYTES) {
    throw malformed(segment, `a chunk has 1 to ${MAX_CHUNK_BYTES} bytes, not ${plainBytes}`);
  }
  if (coded.length < 1 || coded.length > MAX_CODED_BYTES) {
    throw malformed(segment, `a segment has 1 to ${MAX_CODED_BYTES} bytes, not ${coded.length}`);
  }
  // The cheap check first: a torn upload fails here without being inflated.
  if (crc32(coded) !== segment.codedCrc32) throw malformed(segment, 'its coded CRC-32 differs');
  const plain = await codec.decode(coded, plainBytes);
  if (crc32(plain) !== segment.plainCrc32) throw malformed(segment, 'its plain CRC-32 differs');
  if (digestOf(plain) !== digest) throw malformed(segment, 'its plain bytes have another digest');
  releaseMemory(plain);
}

function malformed(segment: Segment, what: string): IngotError {
  return new IngotError('segment-malformed', `segment ${segment.digest}: ${what}`, {
    digest: segment.digest,
  });
}
