import { createHash } from 'node:crypto';
import type { Digest } from '../base/index.ts';
import {
  checkNewPayloadName,
  encodeHead,
  encodeHeaderTar,
  encodeTail,
  OffsetTable,
  type RootfsDescription,
  rootfsHeader,
} from '../bytes/index.ts';
import type { OpenImage } from '../keep/index.ts';
import { ROOTFS_MODE, storedGzip } from './artifact-of-segments.ts';
import { CodedImage } from './coded-image.ts';
import { DataSplice } from './data-splice.ts';
import { checkRange } from './image-parts.ts';
import type { PublishedFile } from './published-file.ts';

/** What an artifact of an image says. */
export interface ImageArtifact {
  readonly description: RootfsDescription;
  /** Name of the payload file, such as `rootfs.ext4`. */
  readonly payloadName: string;
  /** SHA-256 of the whole plain disk (`AccountLibrary.plainDigest`). */
  readonly plainDigest: Digest;
}

/** Bytes in memory, or the coded image. */
interface Part {
  readonly sizeBytes: number;
  read(start: number, end: number, signal?: AbortSignal): Iterable<Buffer> | AsyncIterable<Buffer>;
}

function inMemory(bytes: Buffer): Part {
  return {
    sizeBytes: bytes.length,
    read: (start, end) => (start < end ? [bytes.subarray(start, end)] : []),
  };
}

/** A file of parts laid end to end. */
class PartsFile implements PublishedFile {
  readonly name: string;
  readonly mediaType = 'application/vnd.mender-artifact';
  readonly sizeBytes: number;
  readonly etag: string;
  readonly sha256 = undefined;
  readonly #parts: readonly Part[];
  readonly #table: OffsetTable;
  readonly #image: OpenImage;

  constructor(facts: {
    readonly name: string;
    readonly etag: string;
    readonly parts: readonly Part[];
    readonly image: OpenImage;
  }) {
    this.name = facts.name;
    this.etag = facts.etag;
    this.#parts = facts.parts;
    this.#image = facts.image;
    this.#table = new OffsetTable(facts.parts.map((part) => part.sizeBytes));
    this.sizeBytes = this.#table.totalBytes;
  }

  async *read(
    startByte: number,
    endByte: number,
    signal?: AbortSignal,
  ): AsyncGenerator<Uint8Array, void, undefined> {
    checkRange(startByte, endByte, this.sizeBytes);
    for (let index = this.#table.partAt(startByte); index < this.#parts.length; index++) {
      const start = this.#table.startOf(index);
      if (start >= endByte) return;
      const part = this.#parts[index];
      const from = Math.max(0, startByte - start);
      const to = Math.min(part?.sizeBytes ?? 0, endByte - start);
      yield* part?.read(from, to, signal) ?? [];
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#image[Symbol.asyncDispose]();
  }
}

/**
 * Publishes an image of the library as a Mender Artifact, unsigned and with gzip.
 *
 * The payload is the image's stored segments, so nothing is compressed, the length is known before
 * the first byte, and any range can be read. Disposal closes the image.
 *
 * @param image taken over: it is closed by the file's disposal, and on a failure here by the caller
 * @throws IngotError `request-invalid` for a payload name that clients refuse
 * @see docs/formats/mender-artifact.md "data/0000.tar"
 */
export function publishImageArtifact(image: OpenImage, artifact: ImageArtifact): PublishedFile {
  const { payloadName, plainDigest, description } = artifact;
  checkNewPayloadName(payloadName);
  const coded = new CodedImage(image);
  const payload = { name: payloadName, mode: ROOTFS_MODE, sizeBytes: coded.plainBytes };
  const splice = new DataSplice(payload, coded.sizeBytes);
  const header = rootfsHeader(description, plainDigest);
  const head = encodeHead({
    header,
    compression: 'gzip',
    headerBytes: storedGzip(encodeHeaderTar(header, [payloadName])),
    augmentHeaderBytes: undefined,
    files: [{ name: payloadName, digest: plainDigest, isAugmented: false }],
    signatureFile: undefined,
    dataBytes: splice.sizeBytes,
    forcePax: false,
  });
  const etag = createHash('sha256').update(image.codedTag).update(head).digest('hex').slice(0, 32);
  return new PartsFile({
    name: `${description.info.name}.mender`,
    etag,
    image,
    parts: [
      inMemory(Buffer.concat([head, splice.start])),
      { sizeBytes: coded.sizeBytes, read: (start, end, signal) => coded.read(start, end, signal) },
      inMemory(Buffer.concat([splice.end(coded.plainCrc32), encodeTail(splice.sizeBytes)])),
    ],
  });
}
