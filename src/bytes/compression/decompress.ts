import {
  constants,
  createGunzip,
  createZstdDecompress,
  type Gunzip,
  type ZstdDecompress,
} from 'node:zlib';
import { IngotError, isFailure } from '../../base/index.ts';
import { ByteStream } from '../byte-stream.ts';
import type { Compression } from './compression.ts';
import { unxz } from './unxz.ts';
import { zstdFrames } from './zstd-frames.ts';

const OUTPUT_BYTES = 256 * 1024;
/** A window above 128 MiB (`zstd --long` beyond 27) is refused: it would be memory. */
const MAX_ZSTD_WINDOW_LOG = 27;

type Engine = Gunzip | ZstdDecompress;

/** Feeds the engine as fast as it takes; resolves when all is fed or the engine is gone. */
async function feed(engine: Engine, source: AsyncIterable<Uint8Array>): Promise<number> {
  let fedBytes = 0;
  let wake = (): void => undefined;
  for (const event of ['drain', 'close']) engine.on(event, () => wake());
  for await (const piece of source) {
    if (engine.destroyed) return fedBytes;
    fedBytes += piece.byteLength;
    if (piece.byteLength === 0 || engine.write(piece)) continue;
    await new Promise<void>((resolve) => {
      wake = resolve;
    });
  }
  engine.end();
  return fedBytes;
}

async function* through(
  engine: Engine,
  source: AsyncIterable<Uint8Array>,
  place: string,
): AsyncGenerator<Buffer, void, undefined> {
  const state: { sourceFailure?: unknown } = {};
  const feeding = feed(engine, source).catch((thrown: unknown) => {
    state.sourceFailure = thrown;
    engine.destroy(thrown instanceof Error ? thrown : new Error(String(thrown)));
    return 0;
  });
  try {
    for await (const piece of engine) yield piece;
  } catch (cause) {
    if (state.sourceFailure !== undefined) throw state.sourceFailure;
    if (isFailure(cause)) throw cause;
    throw new IngotError(
      'compression-malformed',
      `${place} is damaged or ends too early`,
      { place },
      { cause },
    );
  } finally {
    engine.destroy();
  }
  const fedBytes = await feeding;
  // zlib stops at zero bytes after the last member and says nothing.
  if (engine.bytesWritten < fedBytes) {
    throw new IngotError('compression-malformed', `${place} has bytes after its compressed data`, {
      place,
    });
  }
}

async function* unzstd(
  source: AsyncIterable<Uint8Array>,
  place: string,
): AsyncGenerator<Buffer, void, undefined> {
  const stream = new ByteStream(source);
  try {
    for await (const frame of zstdFrames(stream, place)) {
      const engine = createZstdDecompress({
        chunkSize: OUTPUT_BYTES,
        params: { [constants.ZSTD_d_windowLogMax]: MAX_ZSTD_WINDOW_LOG },
      });
      yield* through(engine, frame, place);
    }
  } finally {
    await stream.close();
  }
}

/**
 * Decompresses a stream: gzip (several members too), xz (several streams), zstd (several frames).
 *
 * Holds little more than one piece. Ending early is a failure, and so are bytes after the end.
 *
 * @param place what the stream is, for messages: `header.tar.gz`
 * @throws IngotError `compression-malformed`; failures of `source` as they are
 */
export function decompress(
  compression: Compression,
  source: AsyncIterable<Uint8Array>,
  place: string,
): AsyncIterable<Uint8Array> {
  switch (compression) {
    case 'none':
      return source;
    case 'gzip':
      return through(createGunzip({ chunkSize: OUTPUT_BYTES }), source, place);
    case 'zstd':
      return unzstd(source, place);
    case 'xz':
      return unxz(source, place);
  }
}
