import { MIB } from '../base/index.ts';
import { combineCrc32, MAX_CODED_BYTES, zeroSegments, zeroSegmentsBytes } from '../bytes/index.ts';
import type { OpenChunk, OpenImage } from '../keep/index.ts';
import { checkRange, type ImagePart, ImageParts, type PartGroup } from './image-parts.ts';
import { joinBuffers } from './join-buffers.ts';
import { inOrder } from './restore/in-order.ts';

/** Coded bytes that are read together. */
const GROUP_BYTES = MIB;

/** Groups that are read while one goes out. */
const GROUPS_AT_ONCE = 3;

/** Room for a group with its last chunk, and for what lies between its chunks in a pack. */
const MEMORY_BYTES = GROUP_BYTES + 2 * MAX_CODED_BYTES;

/**
 * An image as the segments of its whole disk, holes as zero segments: what stands between the header
 * and the trailer of its gzip member, or inside the member of an artifact.
 *
 * Does not own the image.
 *
 * @see docs/formats/segments.md
 */
export class CodedImage {
  readonly #image: OpenImage;
  readonly #parts: ImageParts;
  readonly plainBytes: number;
  /** CRC-32 of the whole plain disk. */
  readonly plainCrc32: number;

  constructor(image: OpenImage) {
    this.#image = image;
    this.#parts = new ImageParts(image, {
      ofPage: (page) => page.codedBytes,
      ofEntry: (entry) =>
        entry.kind === 'chunk' ? entry.codedBytes : zeroSegmentsBytes(entry.lengthBytes),
    });
    let plainBytes = 0;
    let plainCrc32 = 0;
    for (const page of image.pages) {
      plainCrc32 = combineCrc32(plainCrc32, page.plainCrc32, page.plainBytes);
      plainBytes += page.plainBytes;
    }
    this.plainBytes = plainBytes;
    this.plainCrc32 = plainCrc32;
  }

  /** Coded bytes of the whole disk. */
  get sizeBytes(): number {
    return this.#parts.sizeBytes;
  }

  /**
   * Reads a range of the coded bytes; every chunk's CRC-32 is checked before its bytes go out.
   *
   * @param startByte 0 to `sizeBytes`
   * @param endByte one after the last, up to `sizeBytes`
   * @returns large buffers that must not be written; each is valid until the next is asked for
   * @throws IngotError what the image throws
   */
  async *read(
    startByte: number,
    endByte: number,
    signal?: AbortSignal,
  ): AsyncGenerator<Buffer, void, undefined> {
    checkRange(startByte, endByte, this.sizeBytes);
    const groups = this.#parts.groups({ startByte, endByte }, GROUP_BYTES);
    const idle: Buffer[] = [];
    const readGroup = async (group: PartGroup) => {
      signal?.throwIfAborted();
      const memory = idle.pop() ?? Buffer.allocUnsafeSlow(MEMORY_BYTES);
      const coded = await this.#image.readCoded(chunksOf(group), signal, memory);
      return { buffers: joinBuffers(buffersOf(group, coded)), memory };
    };
    for await (const { buffers, memory } of inOrder(groups, readGroup, { limit: GROUPS_AT_ONCE })) {
      for (const buffer of buffers) {
        signal?.throwIfAborted();
        yield buffer;
      }
      // Whoever left early may still be sending from it: it is used again only after the last.
      idle.push(memory);
    }
  }
}

/** @returns the chunks of a group in order, repeated where they repeat */
export function chunksOf(group: PartGroup): OpenChunk[] {
  return group.flatMap(({ entry }) => (entry.kind === 'chunk' ? [entry] : []));
}

function* buffersOf(
  group: PartGroup,
  coded: readonly Buffer[],
): Generator<Buffer, void, undefined> {
  let next = 0;
  for (const part of group) {
    if (part.entry.kind === 'hole') yield* zeroPart(part);
    else yield (coded[next++] ?? Buffer.alloc(0)).subarray(part.from, part.to);
  }
}

/** Zero segments of a hole, made as they are taken: a hole may have many. */
function* zeroPart({ entry, from, to }: ImagePart): Generator<Buffer, void, undefined> {
  let left = to - from;
  for (const segment of zeroSegments(entry.lengthBytes, from)) {
    if (left <= 0) return;
    yield segment.subarray(0, left);
    left -= segment.byteLength;
  }
}
