import { crc32 } from 'node:zlib';
import {
  combineCrc32,
  type DataFile,
  GZIP_HEADER,
  GZIP_TRAILER_BYTES,
  gzipTrailer,
  layOutData,
  storedSegment,
  storedSegmentBytes,
} from '../bytes/index.ts';

/**
 * `data/0000.tar.gz` of one payload file whose segments are there already: what comes before them,
 * and what after.
 *
 * @see docs/formats/mender-artifact.md "data/0000.tar"
 */
export class DataSplice {
  /** The gzip header and the tar header as a stored segment. */
  readonly start: Buffer;
  /** Bytes of the whole member. */
  readonly sizeBytes: number;
  readonly #file: DataFile;
  readonly #before: Buffer;
  readonly #end: Buffer;
  readonly #plainBytes: number;

  /** @param codedBytes length of the file's segments together */
  constructor(file: DataFile, codedBytes: number) {
    const layout = layOutData([file]);
    this.#file = file;
    this.#before = Buffer.concat(layout.before);
    this.#end = layout.end;
    this.#plainBytes = layout.sizeBytes;
    this.start = Buffer.concat([GZIP_HEADER, storedSegment(this.#before)]);
    this.sizeBytes =
      this.start.length + codedBytes + storedSegmentBytes(this.#end.length) + GZIP_TRAILER_BYTES;
  }

  /**
   * Gives what follows the segments: the archive's end and the member's trailer.
   *
   * @param fileCrc32 CRC-32 of the file's plain bytes
   */
  end(fileCrc32: number): Buffer {
    let plainCrc32 = crc32(this.#before);
    plainCrc32 = combineCrc32(plainCrc32, fileCrc32, this.#file.sizeBytes);
    plainCrc32 = combineCrc32(plainCrc32, crc32(this.#end), this.#end.length);
    return Buffer.concat([storedSegment(this.#end), gzipTrailer(plainCrc32, this.#plainBytes)]);
  }
}
