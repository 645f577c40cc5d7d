import { availableParallelism } from 'node:os';
import { promisify } from 'node:util';
import { constants, deflateRaw, zstdCompress, zstdCompressSync } from 'node:zlib';
import { gzipCompressor, type StreamCompressor } from '../stream-compressor.ts';
import { EMPTY_XZ_STREAM, xzEncoder } from './liblzma.ts';

const deflateAsync = promisify(deflateRaw);
const zstdAsync = promisify(zstdCompress);

/** 256 KiB: parallel enough for small images, and 0.5 % larger than one stream. */
const DEFLATE_PIECE_BYTES = 256 * 1024;
const ZSTD_PIECE_BYTES = 1024 * 1024;
const XZ_PIECE_BYTES = 4 * 1024 * 1024;
/** Each piece in flight needs tens of MiB. @see xz(1) "Memory usage" */
const MAX_XZ_IN_FLIGHT = 4;

/** Two pieces for each core keep it busy while another one is written. */
function piecesInFlight(): number {
  return 2 * availableParallelism() + 2;
}

/** gzip by Node's own zlib, where no faster engine is found. */
export function zlibGzipCompressor(level = 1): StreamCompressor {
  return gzipCompressor({
    engine: `zlib-${level}`,
    pieceBytes: DEFLATE_PIECE_BYTES,
    piecesInFlight: piecesInFlight(),
    deflate: (plain) => deflateAsync(plain, { level, finishFlush: constants.Z_SYNC_FLUSH }),
  });
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
    piecesInFlight: piecesInFlight(),
    header: zstdCompressSync(Buffer.alloc(0), options),
    encode: (plain) => zstdAsync(plain, options),
    trailer: () => Buffer.alloc(0),
  };
}

/** xz, which Mender calls lzma: streams one after another, which xz and liblzma take. */
export function xzCompressor(): StreamCompressor {
  return {
    name: 'lzma (xz)',
    pieceBytes: XZ_PIECE_BYTES,
    piecesInFlight: Math.min(piecesInFlight(), MAX_XZ_IN_FLIGHT),
    header: EMPTY_XZ_STREAM,
    encode: xzEncoder(),
    trailer: () => Buffer.alloc(0),
  };
}
