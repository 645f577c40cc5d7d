import { createHash } from 'node:crypto';
import { type Digest, type Id, IngotError } from '../../base/index.ts';
import { decompress, GZIP_HEADER, GZIP_TRAILER_BYTES } from '../../bytes/index.ts';
import type { Image } from '../../keep/index.ts';
import type { CodedPayload } from '../../publish/index.ts';
import type { DaemonClient } from './daemon-client.ts';
import { type RemoteFile, remoteBytes, remoteFile } from './image-stream.ts';

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

/** The segments inside a spliced gzip member; its trailer tells the CRC-32. */
async function* segmentsOf(
  member: AsyncIterable<Buffer>,
  file: RemoteFile,
  plainBytes: number,
): AsyncGenerator<Buffer, number, undefined> {
  const header: Buffer[] = [];
  let headerLeft = GZIP_HEADER.length;
  let held: Buffer = Buffer.alloc(0);
  for await (const whole of member) {
    header.push(whole.subarray(0, headerLeft));
    const piece = whole.subarray(headerLeft);
    headerLeft -= whole.length - piece.length;
    if (piece.length === 0) continue;
    // The last bytes are the trailer, wherever the pieces end.
    const known = held.length === 0 ? piece : Buffer.concat([held, piece]);
    const sure = Math.max(0, known.length - GZIP_TRAILER_BYTES);
    if (sure > 0) yield known.subarray(0, sure);
    held = Buffer.from(known.subarray(sure));
  }
  if (!Buffer.concat(header).equals(GZIP_HEADER)) throw wrongMember(file.id, 'has another header');
  const isTrailer =
    held.length === GZIP_TRAILER_BYTES &&
    held.readUInt16BE(0) === 0x0300 &&
    held.readUInt32LE(6) === plainBytes % 2 ** 32;
  if (!isTrailer) throw wrongMember(file.id, 'has another trailer');
  return held.readUInt32LE(2);
}

async function digestOf(plain: AsyncIterable<Uint8Array>): Promise<Digest> {
  const hash = createHash('sha256');
  for await (const piece of plain) hash.update(piece);
  return hash.digest('hex') as Digest;
}

/**
 * Opens an image of a daemon's library as an artifact's payload: its segments come over as they are
 * stored.
 *
 * Where the daemon does not know the digest of the plain disk, the image is read once to compute it.
 *
 * @throws IngotError `image-not-found`, `image-not-ready`, `daemon-unreachable`
 */
export async function openRemotePayload(
  client: DaemonClient,
  id: Id<'img'>,
): Promise<RemotePayload> {
  const image = await client.image(id);
  const file = await remoteFile(client, id, 'gzip');
  const openPlain = (): AsyncIterable<Uint8Array> =>
    decompress('gzip', remoteBytes(client, file, 0), `${id}.gz`);
  return {
    name: payloadName(image),
    sizeBytes: image.virtualSizeBytes,
    digest: image.plainDigest ?? (await digestOf(openPlain())),
    codedBytes: file.sizeBytes - GZIP_HEADER.length - GZIP_TRAILER_BYTES,
    openCoded: () => segmentsOf(remoteBytes(client, file, 0), file, image.virtualSizeBytes),
    openPlain,
  };
}
