import { IngotError } from '../../base/index.ts';
import type { ByteStream } from '../byte-stream.ts';

const FRAME_MAGIC = 0xfd2fb528;
const SKIPPABLE_MAGIC = 0x184d2a50;
const PIECE_BYTES = 64 * 1024;
const BLOCK_RLE = 1;
const BLOCK_RESERVED = 3;

function malformed(place: string, what: string): IngotError {
  return new IngotError('compression-malformed', `${place}: ${what}`, { place });
}

async function exactly(stream: ByteStream, lengthBytes: number, place: string): Promise<Buffer> {
  const bytes = await stream.take(lengthBytes);
  if (bytes.length < lengthBytes) throw malformed(place, 'ends inside a zstd frame');
  return bytes;
}

async function* copy(
  stream: ByteStream,
  lengthBytes: number,
  place: string,
): AsyncGenerator<Buffer, void, undefined> {
  let leftBytes = lengthBytes;
  while (leftBytes > 0) {
    const piece = await stream.takeSome(Math.min(leftBytes, PIECE_BYTES));
    if (piece === undefined) throw malformed(place, 'ends inside a zstd frame');
    leftBytes -= piece.length;
    yield piece;
  }
}

/** @returns how many bytes of frame header follow the descriptor (RFC 8878, 3.1.1.1) */
function headerBytes(descriptor: number): number {
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const sizeFlag = descriptor >> 6;
  const sizeBytes = sizeFlag === 0 ? Number(isSingleSegment) : 2 ** sizeFlag;
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3] ?? 0;
  return (isSingleSegment ? 0 : 1) + dictionaryBytes + sizeBytes;
}

/** Yields the bytes of the frame whose magic was taken. */
async function* frame(
  stream: ByteStream,
  magic: Buffer,
  place: string,
): AsyncGenerator<Buffer, void, undefined> {
  yield magic;
  const first = await exactly(stream, 1, place);
  const descriptor = first[0] ?? 0;
  yield first;
  yield await exactly(stream, headerBytes(descriptor), place);
  for (let isLast = false; !isLast; ) {
    const header = await exactly(stream, 3, place);
    const fields = header.readUIntLE(0, 3);
    isLast = (fields & 1) === 1;
    const type = (fields >> 1) & 3;
    if (type === BLOCK_RESERVED) throw malformed(place, 'has a zstd block of a reserved type');
    yield header;
    yield* copy(stream, type === BLOCK_RLE ? 1 : fields >> 3, place);
  }
  if ((descriptor & 4) !== 0) yield await exactly(stream, 4, place);
}

/**
 * Takes a zstd stream apart at its frames: Node's decoder ends with the first.
 *
 * Each frame is to be read to its end before the next one is asked for. Skippable frames are left
 * out.
 *
 * @throws IngotError `compression-malformed` where no frame begins, or one ends too early
 * @see RFC 8878
 */
export async function* zstdFrames(
  stream: ByteStream,
  place: string,
): AsyncGenerator<AsyncIterable<Buffer>, void, undefined> {
  for (let count = 0; ; ) {
    const magic = await stream.take(4);
    if (magic.length === 0 && count > 0) return;
    if (magic.length < 4) throw malformed(place, 'ends where a zstd frame belongs');
    const value = magic.readUInt32LE(0);
    if ((value & 0xfffffff0) >>> 0 === SKIPPABLE_MAGIC) {
      const lengthBytes = (await exactly(stream, 4, place)).readUInt32LE(0);
      for await (const piece of copy(stream, lengthBytes, place)) void piece;
    } else if (value === FRAME_MAGIC) {
      count += 1;
      yield frame(stream, magic, place);
    } else {
      throw malformed(place, 'has bytes that are no zstd frame');
    }
  }
}
