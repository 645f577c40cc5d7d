import { digestBytes, digestFromBytes, IngotError } from '../../base/index.ts';
import { MAX_CHUNK_BYTES, MAX_CODED_BYTES, pushJoined, type Segment } from '../../bytes/index.ts';

/** Media type of a body of segments. */
export const SEGMENTS_MEDIA_TYPE = 'application/vnd.ingot.segments';

/** All coded bytes of one body together are never more. */
const MAX_SEGMENTS_CODED_BYTES = 16 * 1024 * 1024;

/** Chunks in one body are never more: 4096 of the smallest. */
const MAX_SEGMENTS = 4096;

const MAGIC = Buffer.from('ingseg\0\x01', 'latin1');
const BODY_HEADER_BYTES = MAGIC.byteLength + 4;
const FRAME_HEADER_BYTES = 48;

/** A body of segments is never longer. */
export const MAX_SEGMENTS_BODY_BYTES =
  BODY_HEADER_BYTES + MAX_SEGMENTS * FRAME_HEADER_BYTES + MAX_SEGMENTS_CODED_BYTES;

/**
 * Encodes segments as one request body.
 *
 * @returns buffers to write one after another; the coded bytes are not copied
 * @see docs/formats/native-wire.md
 */
export function encodeSegments(segments: readonly Segment[]): Uint8Array[] {
  const headers = Buffer.allocUnsafe(BODY_HEADER_BYTES + segments.length * FRAME_HEADER_BYTES);
  MAGIC.copy(headers, 0);
  headers.writeUInt32LE(segments.length, MAGIC.byteLength);
  let at = BODY_HEADER_BYTES;
  const coded: Buffer[] = [];
  for (const segment of segments) {
    headers.set(digestBytes(segment.digest), at);
    headers.writeUInt32LE(segment.plainBytes, at + 32);
    headers.writeUInt32LE(segment.coded.byteLength, at + 36);
    headers.writeUInt32LE(segment.plainCrc32, at + 40);
    headers.writeUInt32LE(segment.codedCrc32, at + 44);
    at += FRAME_HEADER_BYTES;
    pushJoined(coded, segment.coded);
  }
  return [headers, ...coded];
}

/**
 * Decodes a request body of segments. Lengths are checked here, contents by the library.
 *
 * @param body the whole body; the segments are views of it
 * @throws IngotError `request-invalid`, `version-unknown`, `segment-malformed` for lengths that no
 *   segment has
 * @see docs/formats/native-wire.md
 */
export function decodeSegments(body: Buffer): Segment[] {
  if (body.byteLength < BODY_HEADER_BYTES || !body.subarray(0, 7).equals(MAGIC.subarray(0, 7))) {
    throw new IngotError('request-invalid', 'the body is no list of segments');
  }
  if (body[7] !== MAGIC[7]) {
    throw new IngotError('version-unknown', `segments of version ${body[7]} are not known`);
  }
  const count = body.readUInt32LE(MAGIC.byteLength);
  const headersEnd = BODY_HEADER_BYTES + count * FRAME_HEADER_BYTES;
  if (count > MAX_SEGMENTS || headersEnd > body.byteLength) {
    throw new IngotError(
      'request-invalid',
      `a body of ${body.byteLength} bytes has no ${count} segments`,
    );
  }
  const segments: Segment[] = [];
  let codedAt = headersEnd;
  for (let at = BODY_HEADER_BYTES; at < headersEnd; at += FRAME_HEADER_BYTES) {
    const plainBytes = body.readUInt32LE(at + 32);
    const codedBytes = body.readUInt32LE(at + 36);
    if (plainBytes === 0 || plainBytes > MAX_CHUNK_BYTES || codedBytes > MAX_CODED_BYTES) {
      throw new IngotError(
        'segment-malformed',
        `segment ${segments.length} promises ${plainBytes} plain and ${codedBytes} coded bytes`,
      );
    }
    if (codedAt + codedBytes > body.byteLength) {
      throw new IngotError(
        'request-invalid',
        `segment ${segments.length} runs past the body's end`,
      );
    }
    segments.push({
      digest: digestFromBytes(body.subarray(at, at + 32)),
      plainBytes,
      plainCrc32: body.readUInt32LE(at + 40),
      codedCrc32: body.readUInt32LE(at + 44),
      coded: body.subarray(codedAt, codedAt + codedBytes),
    });
    codedAt += codedBytes;
  }
  if (codedAt !== body.byteLength) {
    throw new IngotError(
      'request-invalid',
      `${body.byteLength - codedAt} bytes follow the last segment`,
    );
  }
  return segments;
}
