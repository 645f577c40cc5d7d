import { type Id, IngotError, parseDigest } from '../../base/index.ts';
import { decompress, GZIP_HEADER, GZIP_TRAILER_BYTES } from '../../bytes/index.ts';
import type { Image } from '../../keep/index.ts';
import type { CodedPayload } from '../../publish/index.ts';
import type { DaemonClient } from './daemon-client.ts';
import { isThisMachine } from './hand-over.ts';
import { type RemoteFile, remoteBlocks, remoteBytes, remoteFileEnd } from './image-stream.ts';

/** An image of a daemon, as the payload of an artifact. */
export interface RemotePayload extends CodedPayload {
  /** Reads the plain bytes: decompressed here. */
  openPlain(): AsyncIterable<Uint8Array>;
}

/** What a payload file is called: by its filesystem, and not by where it came from. */
function payloadName(image: Image): string {
  const { filesystem } = image.capture;
  const isKnown = filesystem !== undefined && /^[a-z0-9]{1,16}$/.test(filesystem);
  return isKnown && filesystem !== 'disk' ? `rootfs.${filesystem}` : 'rootfs.img';
}

function wrongMember(id: string, what: string): IngotError {
  return new IngotError('daemon-protocol', `the gzip form of ${id} ${what}`, { id });
}

/** @returns the CRC-32 in the trailer of a spliced member */
function trailerCrc32(end: Buffer, id: string, plainBytes: number): number {
  const isTrailer =
    end.length === GZIP_TRAILER_BYTES &&
    end.readUInt16BE(0) === 0x0300 &&
    end.readUInt32LE(6) === plainBytes % 2 ** 32;
  if (!isTrailer) throw wrongMember(id, 'has another trailer');
  return end.readUInt32LE(2);
}

/** The segments inside a spliced gzip member: they stand between its header and its trailer. */
async function* segmentsOf(
  client: DaemonClient,
  file: RemoteFile,
): AsyncGenerator<Buffer, void, undefined> {
  const endByte = file.sizeBytes - GZIP_TRAILER_BYTES;
  const header = Buffer.alloc(GZIP_HEADER.length);
  let at = 0;
  for await (const bytes of remoteBlocks(client, file, { startByte: 0, endByte })) {
    const ofHeader = bytes.copy(header, Math.min(at, header.length));
    at += bytes.length;
    if (ofHeader > 0 && at >= header.length && !header.equals(GZIP_HEADER)) {
      throw wrongMember(file.id, 'has another header');
    }
    if (ofHeader < bytes.length) yield bytes.subarray(ofHeader);
  }
}

/**
 * Opens an image of a daemon's library as an artifact's payload: its segments come over as they are
 * stored.
 *
 * Where the daemon does not know the digest of the plain disk, it reads the disk back first.
 *
 * @throws IngotError `image-not-found`, `image-not-ready`, `daemon-unreachable`
 */
export async function openRemotePayload(
  client: DaemonClient,
  id: Id<'img'>,
): Promise<RemotePayload> {
  // Asked together; an image that is not there is told by the first.
  const ending = remoteFileEnd(client, id, 'gzip', GZIP_TRAILER_BYTES);
  ending.catch(() => undefined);
  const image = await client.image(id);
  const digest = image.plainDigest ?? parseDigest(await client.imageDigest(id));
  if (digest === undefined) {
    throw new IngotError('daemon-protocol', `the daemon tells no digest of ${id}`, { id });
  }
  const { file, end } = await ending;
  return {
    name: payloadName(image),
    sizeBytes: image.virtualSizeBytes,
    digest,
    codedBytes: file.sizeBytes - GZIP_HEADER.length - GZIP_TRAILER_BYTES,
    plainCrc32: trailerCrc32(end, id, image.virtualSizeBytes),
    openCoded: () => segmentsOf(client, file),
    writeCoded: async (place, onProgress) => {
      if (!isThisMachine(client.url)) return false;
      const { writeByDaemon } = await import('./handed-output.ts');
      const startByte = GZIP_HEADER.length;
      const endByte = file.sizeBytes - GZIP_TRAILER_BYTES;
      return await writeByDaemon(client, { file, startByte, endByte, place, onProgress });
    },
    openPlain: () => decompress('gzip', remoteBytes(client, file, 0), `${id}.gz`),
  };
}
