import { availableParallelism } from 'node:os';
import { MAX_CHUNK_BYTES } from '../../../bytes/index.ts';
import { xzCompressor, zstdCompressor } from '../../../capture/adapters/compressors.ts';
import { gzipCompressor, type StreamCompressor } from '../../../capture/index.ts';
import { openFastestCodec } from '../../../keep/adapters/fastest-segment-codec.ts';

export { xzCompressor, zstdCompressor };

/** What `-C` takes. */
export const COMPRESSIONS = ['none', 'gzip', 'zstd', 'lzma'] as const;

/** Pieces for each core: it must not run dry while the main thread reads or writes a MiB. */
const PIECES_PER_CORE = 6;

/** More only cost memory. */
const MAX_PIECES_IN_FLIGHT = 64;

/**
 * Gives the compressor that `-C` names; gzip by the fastest deflate engine of this machine.
 *
 * @returns undefined for `none`
 */
export async function compressorNamed(
  name: (typeof COMPRESSIONS)[number],
): Promise<StreamCompressor | undefined> {
  switch (name) {
    case 'none':
      return undefined;
    case 'zstd':
      return zstdCompressor();
    case 'lzma':
      return xzCompressor();
    case 'gzip': {
      const { codec } = await openFastestCodec();
      return gzipCompressor({
        engine: codec.name,
        pieceBytes: MAX_CHUNK_BYTES,
        piecesInFlight: Math.min(
          PIECES_PER_CORE * availableParallelism() + 4,
          MAX_PIECES_IN_FLIGHT,
        ),
        deflate: (plain) => codec.encode(plain),
        crc32: (bytes) => codec.crc32(bytes),
      });
    }
  }
}
