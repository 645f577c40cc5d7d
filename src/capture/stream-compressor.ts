import { crc32 } from 'node:zlib';
import { GZIP_HEADER, gzipTrailer } from '../bytes/index.ts';

/**
 * Compresses a stream piece by piece, on all cores.
 *
 * The stream is `header`, the coded pieces in order, `trailer`; together they are what the usual
 * tools of the format unpack. Pieces do not depend on each other.
 */
export interface StreamCompressor {
  /** `gzip`, `zstd` or `lzma`, and the engine, for people. */
  readonly name: string;
  /** The largest piece that `encode` takes; every piece but the last should have it. */
  readonly pieceBytes: number;
  /** How many pieces are worth having in flight. */
  readonly piecesInFlight: number;
  /** Does not depend on the content: it is sent before a freeze. Never empty. */
  readonly header: Uint8Array;
  /** @param plain must not change until the promise settles */
  encode(plain: Uint8Array): Promise<Uint8Array>;
  /** @returns the CRC-32 of gzip, computed on the caller's thread */
  crc32(bytes: Uint8Array): number;
  /** @param plain CRC-32 and length of everything that was encoded */
  trailer(plain: { readonly crc32: number; readonly lengthBytes: number }): Uint8Array;
}

/**
 * Makes one gzip member of deflate segments (RFC 1952): any tool unpacks it.
 *
 * @param deflate codes a piece as byte-aligned raw deflate without a final block and without a
 *   reference before its start
 */
export function gzipCompressor({
  engine,
  deflate,
  crc32: sum = crc32,
  pieceBytes,
  piecesInFlight,
}: {
  readonly engine: string;
  readonly deflate: (plain: Uint8Array) => Promise<Uint8Array>;
  /** The engine's own where it is faster than Node's. */
  readonly crc32?: (bytes: Uint8Array) => number;
  readonly pieceBytes: number;
  readonly piecesInFlight: number;
}): StreamCompressor {
  return {
    name: `gzip (${engine})`,
    pieceBytes,
    piecesInFlight,
    header: GZIP_HEADER,
    encode: deflate,
    crc32: (bytes) => sum(bytes),
    trailer: (plain) => gzipTrailer(plain.crc32, plain.lengthBytes),
  };
}
