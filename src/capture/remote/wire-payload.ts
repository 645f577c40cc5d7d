import { promisify } from 'node:util';
import { crc32, createInflateRaw, type InflateRaw, zstdDecompress } from 'node:zlib';
import { IngotError } from '../../base/index.ts';
import { releaseMemory, type WireCodec } from '../../bytes/index.ts';
import type { ByteQueue } from './byte-queue.ts';

/** What `gzip -c` and `pigz -c` write before the deflate stream when they read a pipe. */
const GZIP_HEADER_BYTES = 10;
const GZIP_TRAILER_BYTES = 8;
/** Room for what a decoder gives beyond the length, which is refused. */
const DECODER_PIECE_BYTES = 256 * 1024;

const ZSTD_MAGIC = 0xfd2fb528;
/** RFC 8878 section 3.1.1.1: sizes by the two-bit flags of the frame header descriptor. */
const ZSTD_DICTIONARY_ID_BYTES = [0, 1, 2, 4];
const ZSTD_CONTENT_SIZE_BYTES = [0, 2, 4, 8];
const ZSTD_MAX_BLOCK_BYTES = 128 * 1024;

const unpackZstd = promisify(zstdDecompress);

function malformed(reason: string, cause?: unknown): IngotError {
  return new IngotError('frame-malformed', `a payload of the device ${reason}`, {}, { cause });
}

/**
 * Inflates until the coded stream says that it ends; what comes behind goes back.
 *
 * @param plain is filled exactly
 */
async function inflate(queue: ByteQueue, plain: Buffer): Promise<void> {
  const decoder: InflateRaw = createInflateRaw({ chunkSize: DECODER_PIECE_BYTES });
  let doneBytes = 0;
  let fedBytes = 0;
  let failure: unknown;
  let isOver = false;
  const over = new Promise<void>((resolve) => {
    decoder.on('data', (piece: Buffer) => {
      if (doneBytes + piece.length > plain.length) {
        failure ??= malformed(`holds more than ${plain.length} bytes`);
      } else {
        piece.copy(plain, doneBytes);
      }
      doneBytes += piece.length;
    });
    decoder.once('end', () => {
      isOver = true;
      resolve();
    });
    decoder.once('error', (thrown) => {
      failure ??= malformed('cannot be unpacked', thrown);
      resolve();
    });
  });
  let piece: Buffer = Buffer.alloc(0);
  try {
    while (!isOver && failure === undefined) {
      const next = await queue.next();
      if (next === undefined) {
        throw new IngotError(
          'source-truncated',
          `the device's stream ended after ${doneBytes} of ${plain.length} bytes of a payload`,
        );
      }
      piece = next;
      fedBytes += piece.length;
      const fed = new Promise<void>((resolve) => decoder.write(piece, () => resolve()));
      await Promise.race([fed, over]);
    }
    if (failure !== undefined) throw failure;
    if (doneBytes !== plain.length) {
      throw malformed(`holds ${doneBytes} of ${plain.length} bytes`);
    }
    queue.putBack(piece.subarray(piece.length - (fedBytes - decoder.bytesWritten)));
  } finally {
    decoder.destroy();
  }
}

/** RFC 1952: a fixed header (the tools read a pipe, so no name stands in it), deflate, CRC, length. */
async function readGzip(queue: ByteQueue, plain: Buffer): Promise<void> {
  const header = await queue.exactly(GZIP_HEADER_BYTES);
  if (header[0] !== 0x1f || header[1] !== 0x8b || header[2] !== 8 || header[3] !== 0) {
    throw malformed('has no plain gzip header');
  }
  await inflate(queue, plain);
  const trailer = await queue.exactly(GZIP_TRAILER_BYTES);
  if (
    trailer.readUInt32LE(0) !== crc32(plain) ||
    trailer.readUInt32LE(4) !== plain.length % 2 ** 32
  ) {
    throw malformed('does not have the CRC-32 and length of its gzip trailer');
  }
}

/** Room for a frame whose blocks did not shrink: three bytes for each, and a header. */
function frameRoomBytes(lengthBytes: number): number {
  return lengthBytes + Math.ceil(lengthBytes / 1024) + 1024;
}

/**
 * Takes one zstd frame off the stream, without unpacking it: its blocks say how long they are.
 *
 * A decoder would take what lies behind the frame for the next one.
 *
 * @param room takes the frame; one that is longer is refused
 * @returns the part of `room` that the frame fills
 * @see RFC 8878 section 3.1.1
 */
async function takeZstdFrame(queue: ByteQueue, room: Buffer): Promise<Buffer> {
  let codedBytes = 0;
  const take = async (lengthBytes: number): Promise<Buffer> => {
    const end = codedBytes + lengthBytes;
    if (end > room.length) throw malformed(`is longer than ${room.length} coded bytes`);
    const part = room.subarray(codedBytes, end);
    await queue.fill(part);
    codedBytes = end;
    return part;
  };
  const start = await take(5);
  if (start.readUInt32LE(0) !== ZSTD_MAGIC) throw malformed('is no zstd frame');
  const descriptor = start.readUInt8(4);
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const sizeFlag = descriptor >> 6;
  const sizeBytes = ZSTD_CONTENT_SIZE_BYTES[sizeFlag] ?? 0;
  const restBytes =
    (isSingleSegment ? 0 : 1) +
    (ZSTD_DICTIONARY_ID_BYTES[descriptor & 3] ?? 0) +
    (sizeFlag === 0 && isSingleSegment ? 1 : sizeBytes);
  await take(restBytes);
  for (let isLast = false; !isLast; ) {
    const header = (await take(3)).readUIntLE(0, 3);
    const size = header >> 3;
    const type = (header >> 1) & 3;
    isLast = (header & 1) === 1;
    if (type === 3 || size > ZSTD_MAX_BLOCK_BYTES) throw malformed('has a bad zstd block');
    // A block of type 1 is one byte that repeats.
    await take(type === 1 ? 1 : size);
  }
  if ((descriptor & 4) !== 0) await take(4);
  return room.subarray(0, codedBytes);
}

/**
 * Unpacks a zstd frame.
 *
 * @param lengthBytes of the plain bytes, exactly
 * @throws IngotError `frame-malformed`
 */
export async function unpackFrame(frame: Uint8Array, lengthBytes: number): Promise<Buffer> {
  let plain: Buffer;
  try {
    plain = await unpackZstd(frame, {
      maxOutputLength: Math.max(1, lengthBytes),
      // Room for all: pieces would have to be joined.
      chunkSize: Math.max(1024, lengthBytes + 64),
    });
  } catch (thrown) {
    throw malformed('cannot be unpacked', thrown);
  }
  if (plain.length !== lengthBytes) {
    throw malformed(`holds ${plain.length} of ${lengthBytes} bytes`);
  }
  return plain;
}

/** A payload as it was taken off the stream: unpacked and checked, or a zstd frame as it came. */
export type WirePayload =
  | { readonly kind: 'plain'; readonly plain: Buffer }
  | { readonly kind: 'zstd'; readonly frame: Buffer };

/**
 * Takes a payload off the stream that says itself where it ends (or has its length known).
 *
 * A zstd frame is not unpacked here, so that this can happen when its bytes are wanted.
 *
 * @param setup `lengthBytes` of the plain bytes; `scratch` gives memory that a frame passes through
 * @throws IngotError `frame-malformed`, `source-truncated`
 */
export async function takeWirePayload(
  queue: ByteQueue,
  codec: WireCodec,
  {
    lengthBytes,
    scratch = (roomBytes) => Buffer.allocUnsafe(roomBytes),
  }: { readonly lengthBytes: number; readonly scratch?: (roomBytes: number) => Buffer },
): Promise<WirePayload> {
  if (codec === 'none') return { kind: 'plain', plain: await queue.exactly(lengthBytes) };
  if (codec === 'zstd') {
    const coded = await takeZstdFrame(queue, scratch(frameRoomBytes(lengthBytes)));
    // How long a frame is shows at its end. Kept is no more than that: a few of them wait.
    const frame = Buffer.allocUnsafeSlow(coded.length);
    coded.copy(frame);
    return { kind: 'zstd', frame };
  }
  const plain = Buffer.allocUnsafeSlow(lengthBytes);
  await readGzip(queue, plain);
  return { kind: 'plain', plain };
}

/**
 * Gives the plain bytes of a payload; what it came in is given back.
 *
 * @throws IngotError `frame-malformed`
 */
export async function unpackPayload(payload: WirePayload, lengthBytes: number): Promise<Buffer> {
  if (payload.kind === 'plain') return payload.plain;
  const plain = await unpackFrame(payload.frame, lengthBytes);
  releaseMemory(payload.frame);
  return plain;
}
