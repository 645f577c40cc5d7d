import { promisify } from 'node:util';
import { constants, zstdCompress } from 'node:zlib';
import { type Id, MIB } from '../base/index.ts';
import type { PublishedFile } from './published-file.ts';
import { inOrder } from './restore/in-order.ts';

/** Plain bytes of one frame: a decoder holds no more, and all cores have work. */
const FRAME_BYTES = 4 * MIB;
const FRAMES_AT_ONCE = 3;
const LEVEL = 3;

const compress = promisify(zstdCompress);

/**
 * An image in an outward form whose length is known at its end only.
 *
 * There is no part of it to ask for. Disposal ends the lease that keeps its chunks from collection.
 */
export interface PublishedStream extends AsyncDisposable {
  /** File name for users: `img-y22uq.zst`. */
  readonly name: string;
  readonly mediaType: string;
  /** Strong validator without quotes: changes exactly when a byte changes. */
  readonly etag: string;
  /**
   * Reads the whole file; each time the same bytes.
   *
   * @returns buffers that must not be written; each is valid until the next is asked for
   * @throws IngotError what the image throws: the bytes given so far were right
   */
  read(signal?: AbortSignal): AsyncIterable<Uint8Array>;
}

/**
 * Gives a raw disk as zstd: frames of 4 MiB one after another, each with its length and checksum.
 *
 * It is compressed while it is read. Frames end where the disk says, each is compressed by itself on
 * one thread and without a dictionary: so the bytes depend on the disk and on the library's version
 * alone, and both are in the ETag.
 *
 * @param raw is owned by the stream from now on
 * @param zstdVersion of the library that compresses: another one may give other bytes
 * @see RFC 8878 section 3.1
 */
export function publishZstd(
  raw: PublishedFile,
  { imageId, zstdVersion }: { readonly imageId: Id<'img'>; readonly zstdVersion: string },
): PublishedStream {
  return {
    name: `${imageId}.zst`,
    mediaType: 'application/zstd',
    etag: `zst-${imageId}-${zstdVersion}-${LEVEL}`,
    read: (signal) => readFrames(raw, signal),
    [Symbol.asyncDispose]: () => raw[Symbol.asyncDispose](),
  };
}

async function* readFrames(
  raw: PublishedFile,
  signal: AbortSignal | undefined,
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
  signal: AbortSignal | undefined,
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
