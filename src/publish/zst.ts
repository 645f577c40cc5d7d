import { promisify } from 'node:util';
import { constants, zstdCompress } from 'node:zlib';
import { MIB } from '../base/index.ts';
import type { PublishedFile } from './published-file.ts';
import { inOrder } from './restore/in-order.ts';

/** Plain bytes of one frame: a decoder holds no more, and all cores have work. */
const FRAME_BYTES = 4 * MIB;
const FRAMES_AT_ONCE = 3;
const LEVEL = 3;

const compress = promisify(zstdCompress);

/**
 * Gives a raw disk as zstd: frames of 4 MiB one after another, each with its length and checksum.
 *
 * It is compressed while it is read, so its length is known at its end only, and there is no part of
 * it to ask for.
 *
 * @param raw stays the caller's
 * @see RFC 8878 section 3.1
 */
export async function* publishZstd(
  raw: PublishedFile,
  signal: AbortSignal,
): AsyncGenerator<Buffer, void, undefined> {
  const params = {
    [constants.ZSTD_c_compressionLevel]: LEVEL,
    [constants.ZSTD_c_checksumFlag]: 1,
  };
  yield* inOrder(framesOf(raw, signal), (plain) => compress(plain, { params }), {
    limit: FRAMES_AT_ONCE,
  });
}

/** The disk in the lengths of frames; each is memory of its own. */
async function* framesOf(
  raw: PublishedFile,
  signal: AbortSignal,
): AsyncGenerator<Buffer, void, undefined> {
  let frame = Buffer.allocUnsafeSlow(FRAME_BYTES);
  let filled = 0;
  let isEmpty = true;
  for await (const bytes of raw.read(0, raw.sizeBytes, signal)) {
    for (let from = 0; from < bytes.byteLength; ) {
      const length = Math.min(bytes.byteLength - from, FRAME_BYTES - filled);
      frame.set(bytes.subarray(from, from + length), filled);
      filled += length;
      from += length;
      if (filled < FRAME_BYTES) continue;
      yield frame;
      isEmpty = false;
      frame = Buffer.allocUnsafeSlow(FRAME_BYTES);
      filled = 0;
    }
  }
  // An empty disk is an empty frame: no bytes at all are no zstd.
  if (filled > 0 || isEmpty) yield frame.subarray(0, filled);
}
