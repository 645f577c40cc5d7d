import { crc32 } from 'node:zlib';
import { IngotError, isFailure, MIB } from '../base/index.ts';
import type { OpenChunk, OpenImage, SegmentCodec } from '../keep/index.ts';
import { chunksOf } from './coded-image.ts';
import { checkRange, type ImagePart, ImageParts, type PartGroup } from './image-parts.ts';
import type { PublishedFile } from './published-file.ts';
import { inOrder } from './restore/in-order.ts';

/** Plain bytes that are read and inflated together. */
const GROUP_BYTES = 4 * MIB;

/** Groups at work while one goes out. */
const GROUPS_AT_ONCE = 3;

/** What holes are given out in. */
const ZEROS = Buffer.alloc(MIB);

/**
 * Gives an image as the bytes of its disk. Chunks are inflated on all cores and each plain CRC-32 is
 * checked.
 *
 * @param image is owned by the file from now on
 */
export function publishRaw(image: OpenImage, codec: SegmentCodec): PublishedFile {
  const parts = new ImageParts(image, {
    ofPage: (page) => page.plainBytes,
    ofEntry: (entry) => entry.lengthBytes,
  });
  const { id, plainDigest } = image.image;
  return {
    name: `${id}.raw`,
    mediaType: 'application/octet-stream',
    sizeBytes: parts.sizeBytes,
    // The plain bytes of an image never change.
    etag: `raw-${id}`,
    sha256: plainDigest,
    read: (startByte, endByte, signal) =>
      readPlain(image, { parts, codec }, { startByte, endByte }, signal),
    [Symbol.asyncDispose]: () => image[Symbol.asyncDispose](),
  };
}

async function* readPlain(
  image: OpenImage,
  { parts, codec }: { readonly parts: ImageParts; readonly codec: SegmentCodec },
  range: { readonly startByte: number; readonly endByte: number },
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer, void, undefined> {
  checkRange(range.startByte, range.endByte, parts.sizeBytes);
  const readGroup = async (group: PartGroup): Promise<Generator<Buffer, void, undefined>> => {
    signal?.throwIfAborted();
    const chunks = chunksOf(group);
    const coded = await image.readCoded(chunks, signal);
    const plain = await Promise.all(
      chunks.map((chunk, i) => decodeChunk(codec, chunk, coded[i] ?? Buffer.alloc(0))),
    );
    return buffersOf(group, plain);
  };
  const groups = parts.groups(range, GROUP_BYTES);
  for await (const buffers of inOrder(groups, readGroup, { limit: GROUPS_AT_ONCE })) {
    for (const buffer of buffers) {
      signal?.throwIfAborted();
      yield buffer;
    }
  }
}

async function decodeChunk(codec: SegmentCodec, chunk: OpenChunk, coded: Buffer): Promise<Buffer> {
  const corrupt = (cause?: unknown): IngotError =>
    new IngotError(
      'chunk-corrupt',
      `the segment of chunk ${chunk.digest} does not give its plain bytes`,
      { digest: chunk.digest },
      { cause },
    );
  try {
    const plain = await codec.decode(coded, chunk.lengthBytes);
    if (crc32(plain) !== chunk.plainCrc32) throw corrupt();
    return plain;
  } catch (thrown) {
    if (isFailure(thrown, 'segment-malformed')) throw corrupt(thrown);
    throw thrown;
  }
}

function* buffersOf(
  group: PartGroup,
  plain: readonly Buffer[],
): Generator<Buffer, void, undefined> {
  let next = 0;
  for (const part of group) {
    if (part.entry.kind === 'hole') yield* zeroPart(part);
    else yield (plain[next++] ?? Buffer.alloc(0)).subarray(part.from, part.to);
  }
}

function* zeroPart({ from, to }: ImagePart): Generator<Buffer, void, undefined> {
  for (let left = to - from; left > 0; left -= ZEROS.byteLength) {
    yield left < ZEROS.byteLength ? ZEROS.subarray(0, left) : ZEROS;
  }
}
