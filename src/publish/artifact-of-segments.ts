import { crc32 } from 'node:zlib';
import { type Digest, IngotError, noProgress, type OnProgress } from '../base/index.ts';
import {
  type ArtifactHeader,
  encodeHead,
  encodeHeaderTar,
  encodeManifests,
  encodeTail,
  spliceGzip,
  storedSegment,
} from '../bytes/index.ts';
import type { ArtifactSigner, ArtifactTarget, FilePlace } from './artifact-write.ts';
import { DataSplice } from './data-splice.ts';

/** A payload whose segments are there already: an image of the library. */
export interface CodedPayload {
  readonly name: string;
  /** Length and digest of the plain bytes. */
  readonly sizeBytes: number;
  readonly digest: Digest;
  /** Length of the segments together. */
  readonly codedBytes: number;
  /** CRC-32 of the plain bytes. */
  readonly plainCrc32: number;
  /**
   * Reads the segments.
   *
   * @returns buffers that are valid until the next is asked for
   */
  openCoded(signal: AbortSignal | undefined): AsyncIterable<Buffer>;
  /**
   * Has the segments written into a file by whoever has them; left out where nobody could.
   *
   * @returns false when they were not written, or not all of them
   */
  writeCoded?(place: FilePlace, onProgress: (doneBytes: number) => void): Promise<boolean>;
}

/** `header.tar.gz` in its stored form. */
export function storedGzip(plain: Buffer): Buffer {
  const segment = {
    coded: storedSegment(plain),
    plainBytes: plain.length,
    plainCrc32: crc32(plain),
  };
  return spliceGzip([segment]);
}

/** A root filesystem has no mode; this one is what most files have. */
export const ROOTFS_MODE = 0o644;

/**
 * Writes an artifact of segments: nothing is compressed, and the target need not be patched.
 *
 * @throws IngotError `source-size-mismatch` when the segments have another length than promised;
 *   failures of the payload, the signer and the target as they are
 * @see docs/formats/mender-artifact.md "data/0000.tar"
 */
export async function writeArtifactOfSegments(
  request: {
    readonly header: ArtifactHeader;
    readonly payload: CodedPayload;
    readonly signer?: ArtifactSigner | undefined;
    readonly onProgress?: OnProgress | undefined;
    readonly signal?: AbortSignal | undefined;
  },
  target: ArtifactTarget,
): Promise<{ readonly sizeBytes: number }> {
  const { header, payload, signer, onProgress = noProgress, signal } = request;
  const { name, sizeBytes, digest, codedBytes } = payload;
  const splice = new DataSplice({ name, mode: ROOTFS_MODE, sizeBytes }, codedBytes);
  const parts = {
    header,
    compression: 'gzip' as const,
    headerBytes: storedGzip(encodeHeaderTar(header, [name])),
    augmentHeaderBytes: undefined,
    files: [{ name, digest, isAugmented: false }],
  };
  const head = encodeHead({
    ...parts,
    signatureFile: await signer?.sign(encodeManifests(parts).manifest),
    dataBytes: splice.sizeBytes,
    forcePax: false,
  });
  const tail = encodeTail(splice.sizeBytes);
  const artifactBytes = head.length + splice.sizeBytes + tail.length;
  await target.reserve?.(artifactBytes);
  await target.write(head);
  await target.write(splice.start);
  const tell = (doneBytes: number): void =>
    onProgress({ doneBytes, totalBytes: codedBytes, stage: 'copying the segments' });
  if (!(await writeApart(payload, target, tell)))
    await copyCoded({ payload, signal, tell }, target);
  signal?.throwIfAborted();
  await target.write(splice.end(payload.plainCrc32));
  await target.write(tail);
  return { sizeBytes: artifactBytes };
}

/** @returns false when the segments are still to be written */
async function writeApart(
  payload: CodedPayload,
  target: ArtifactTarget,
  tell: (doneBytes: number) => void,
): Promise<boolean> {
  if (payload.writeCoded === undefined || target.writeApart === undefined) return false;
  return await target.writeApart(
    payload.codedBytes,
    async (place) => (await payload.writeCoded?.(place, tell)) ?? false,
  );
}

async function copyCoded(
  {
    payload,
    signal,
    tell,
  }: {
    readonly payload: CodedPayload;
    readonly signal: AbortSignal | undefined;
    readonly tell: (doneBytes: number) => void;
  },
  target: ArtifactTarget,
): Promise<void> {
  const { name, codedBytes } = payload;
  let doneBytes = 0;
  for await (const bytes of payload.openCoded(signal)) {
    signal?.throwIfAborted();
    doneBytes += bytes.length;
    tell(doneBytes);
    await target.write(bytes);
  }
  if (doneBytes === codedBytes) return;
  throw new IngotError(
    'source-size-mismatch',
    `${name} gave ${doneBytes} of ${codedBytes} coded bytes`,
    { codedBytes, doneBytes },
  );
}
