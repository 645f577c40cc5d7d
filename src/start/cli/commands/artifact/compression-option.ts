import { Command, Option } from '@commander-js/extra-typings';
import type { DataCoding } from '../../../../publish/index.ts';

/** Names of compressions as mender-artifact has them; its lzma is xz. */
const COMPRESSIONS = [
  'none',
  'gzip',
  'lzma',
  'zstd_fastest',
  'zstd_fast',
  'zstd_better',
  'zstd_best',
] as const;

/** One of the names that `--compression` takes. */
export type CompressionName = (typeof COMPRESSIONS)[number];

/** `--compression`; without a default, because it may stand before the command too. */
export function compressionOption() {
  return new Option('--compression <how>', 'compress header and data (default: gzip)').choices(
    COMPRESSIONS,
  );
}

/** Opens the compressor that goes with a name; engines are loaded here, and only for whom codes. */
export async function dataCoding(name: CompressionName): Promise<DataCoding> {
  if (name === 'none') return { compression: 'none', compressor: undefined };
  const { compressorNamed, xzCompressor, zstdCompressor } = await import(
    '../../support/stream-compressors.ts'
  );
  switch (name) {
    case 'gzip':
      return { compression: 'gzip', compressor: await compressorNamed('gzip') };
    case 'lzma':
      return { compression: 'xz', compressor: xzCompressor() };
    case 'zstd_fastest':
    case 'zstd_fast':
    case 'zstd_better':
    case 'zstd_best':
      return { compression: 'zstd', compressor: zstdCompressor(ZSTD_LEVELS[name]) };
  }
}

/** The levels that klauspost/compress says its four names stand for. */
const ZSTD_LEVELS = { zstd_fastest: 1, zstd_fast: 3, zstd_better: 7, zstd_best: 11 } as const;

/**
 * Finds `--compression` of a command, or of one above it, where mender-artifact takes it too.
 *
 * @returns undefined where nobody chose: a changed artifact then keeps its own
 */
export function chosenOrOwnCompression(command: unknown): CompressionName | undefined {
  for (let at: unknown = command; at instanceof Command; at = at.parent) {
    const { compression } = at.opts() as { compression?: CompressionName };
    if (compression !== undefined) return compression;
  }
  return undefined;
}

/** The same for new artifacts: `gzip` where nobody chose. */
export function chosenCompression(command: unknown): CompressionName {
  return chosenOrOwnCompression(command) ?? 'gzip';
}
