import {
  GZIP_HEADER,
  GZIP_TRAILER_BYTES,
  gzipTrailer,
  OffsetTable,
  splicedGzipBytes,
} from '../bytes/index.ts';
import type { OpenImage } from '../keep/index.ts';
import { CodedImage } from './coded-image.ts';
import { checkRange } from './image-parts.ts';
import type { PublishedFile } from './published-file.ts';

/** Enough of the tag that two forms never share it by chance. */
const TAG_DIGITS = 32;

/**
 * Gives an image as one gzip member, spliced from its segments: nothing is compressed.
 *
 * @param image is owned by the file from now on
 * @see docs/formats/segments.md
 */
export function publishRawGz(image: OpenImage): PublishedFile {
  const coded = new CodedImage(image);
  const sizeBytes = splicedGzipBytes(coded.sizeBytes);
  const { id } = image.image;
  return {
    name: `${id}.gz`,
    mediaType: 'application/gzip',
    sizeBytes,
    etag: `gz-${id}-${image.codedTag.slice(0, TAG_DIGITS)}`,
    sha256: undefined,
    read: (startByte, endByte, signal) => readMember(coded, startByte, endByte, signal),
    [Symbol.asyncDispose]: () => image[Symbol.asyncDispose](),
  };
}

async function* readMember(
  coded: CodedImage,
  startByte: number,
  endByte: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer, void, undefined> {
  const table = new OffsetTable([GZIP_HEADER.byteLength, coded.sizeBytes, GZIP_TRAILER_BYTES]);
  checkRange(startByte, endByte, table.totalBytes);
  /** The range within a part. */
  const within = (part: number): readonly [number, number] => {
    const start = table.startOf(part);
    const length = table.startOf(part + 1) - start;
    const clip = (at: number): number => Math.min(Math.max(at - start, 0), length);
    return [clip(startByte), clip(endByte)];
  };
  const header = GZIP_HEADER.subarray(...within(0));
  if (header.byteLength > 0) yield header;
  const [codedStart, codedEnd] = within(1);
  if (codedStart < codedEnd) yield* coded.read(codedStart, codedEnd, signal);
  const trailer = gzipTrailer(coded.plainCrc32, coded.plainBytes).subarray(...within(2));
  if (trailer.byteLength > 0) yield trailer;
}
