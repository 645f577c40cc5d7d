import { availableParallelism } from 'node:os';
import { promisify } from 'node:util';
import { constants, crc32, zstdCompress, zstdCompressSync } from 'node:zlib';
import type { StreamCompressor } from '../stream-compressor.ts';
import { EMPTY_XZ_STREAM, xzEncoder } from './liblzma.ts';

const zstdAsync = promisify(zstdCompress);

const ZSTD_PIECE_BYTES = 1024 * 1024;
const XZ_PIECE_BYTES = 4 * 1024 * 1024;
/** Two pieces for each core keep it busy while others are written; more only cost memory. */
const MAX_ZSTD_IN_FLIGHT = 32;
/** Each piece being coded needs 17 MiB. @see xz(1) "Memory usage" */
const MAX_XZ_IN_FLIGHT = 4;

function piecesInFlight(limit: number): number {
  return Math.min(2 * availableParallelism() + 2, limit);
}

/** The most that zstd makes of a piece. @see zstd.h ZSTD_COMPRESSBOUND */
function zstdBound(lengthBytes: number): number {
  return lengthBytes + Math.ceil(lengthBytes / 256) + 64 * 1024;
}

/**
 * zstd: frames one after another, which every zstd decoder takes (RFC 8878 section 3.1).
 *
 * @param level 1 to 22
 */
export function zstdCompressor(level = 3): StreamCompressor {
  const options = { params: { [constants.ZSTD_c_compressionLevel]: level } };
  return {
    name: 'zstd',
    pieceBytes: ZSTD_PIECE_BYTES,
    piecesInFlight: piecesInFlight(MAX_ZSTD_IN_FLIGHT),
    header: zstdCompressSync(Buffer.alloc(0), options),
    // One output buffer for all: each further one is another trip to the pool, and more memory.
    encode: (plain) => zstdAsync(plain, { ...options, chunkSize: zstdBound(plain.length) }),
    crc32: (bytes) => crc32(bytes),
    trailer: () => Buffer.alloc(0),
  };
}

/** xz, which Mender calls lzma: streams one after another, which xz and liblzma take. */
export function xzCompressor(): StreamCompressor {
  return {
    name: 'lzma (xz)',
    pieceBytes: XZ_PIECE_BYTES,
    piecesInFlight: piecesInFlight(MAX_XZ_IN_FLIGHT),
    header: EMPTY_XZ_STREAM,
    encode: xzEncoder(),
    crc32: (bytes) => crc32(bytes),
    trailer: () => Buffer.alloc(0),
  };
}
