import { type Digest, type DigestStream, IngotError, type OnProgress } from '../base/index.ts';
import {
  type ArtifactHeader,
  type DataLayout,
  encodeAugmentHeaderTar,
  encodeHead,
  encodeHeaderTar,
  encodeManifests,
  encodeTail,
  layOutData,
} from '../bytes/index.ts';
import {
  type ArtifactPayload,
  codeData,
  codeDataApart,
  codeSmall,
  type DataCoding,
  exactly,
} from './artifact-data.ts';
import { CHANGED, PayloadReader } from './payload-reader.ts';

/** Coded data up to this size is kept in memory where it would have to be coded twice. */
const KEPT_DATA_BYTES = 32 * 1024 * 1024;

/** Above this plain size a compressed size may need a PAX header: its place is kept. */
const MAY_NEED_PAX_BYTES = 8_000_000_000;

const UNKNOWN_DIGEST = '0'.repeat(64) as Digest;

/** Signs manifests. */
export interface ArtifactSigner {
  /** Length of what `sign` gives, or undefined when only signing tells. */
  readonly signatureFileBytes: number | undefined;
  /** @returns the content of `manifest.sig` */
  sign(manifest: Buffer): Promise<Buffer>;
}

/** Takes the bytes of an artifact in order. */
export interface ArtifactTarget {
  write(bytes: Uint8Array): Promise<void>;
  /** Writes over bytes from the artifact's start on; undefined where that cannot be (a pipe). */
  readonly patch: ((bytes: Uint8Array) => Promise<void>) | undefined;
  /**
   * Keeps space for a whole artifact whose length is known, so that a disk that is too small is told
   * before a byte is written; left out where there is nothing to keep.
   */
  reserve?(sizeBytes: number): Promise<void>;
  /**
   * Lets somebody else write the bytes that come next, straight into the file; left out where there
   * is none.
   *
   * @param write returns false when it has not written them: they are given to `write` above
   * @returns what it returned, or false where nobody else can write here
   */
  writeApart?(lengthBytes: number, write: (place: FilePlace) => Promise<boolean>): Promise<boolean>;
}

/** A place in an open file; the descriptors are the owner's. */
export interface FilePlace {
  /** For people. */
  readonly name: string;
  /** A descriptor that is open for writing. */
  readonly buffered: number;
  /** Another one of the same file, with O_DIRECT. */
  readonly direct: number;
  readonly offsetBytes: number;
}

/** What to write. */
export interface WriteArtifactRequest extends DataCoding {
  /** Gives the header for these digests of `payloads`. Its length must not depend on them. */
  header(digests: readonly Digest[]): ArtifactHeader;
  readonly payloads: readonly ArtifactPayload[];
  readonly signer?: ArtifactSigner | undefined;
  /** Computes digests of large payloads; on this thread where it is left out. */
  readonly openDigestStream?: (() => DigestStream) | undefined;
  readonly onProgress?: OnProgress | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What was written. */
export interface WrittenArtifact {
  readonly sizeBytes: number;
  readonly digests: readonly Digest[];
}

async function measure(request: WriteArtifactRequest): Promise<PayloadReader> {
  const reader = new PayloadReader(request, 'computing the digest');
  for (const index of request.payloads.keys()) await reader.measure(index);
  return reader;
}

/** One writing of one artifact; {@link writeArtifact} is its door. */
class ArtifactWriter {
  readonly #request: WriteArtifactRequest;
  readonly #target: ArtifactTarget;
  readonly #sizes: readonly number[];
  /** Who has measured the payloads before, if anybody. */
  readonly #measured: PayloadReader | undefined;
  readonly #layout: DataLayout;
  #signed: { manifest: Buffer; signatureFile: Buffer | undefined } | undefined;

  constructor(
    request: WriteArtifactRequest,
    target: ArtifactTarget,
    { sizes, measured }: { readonly sizes: readonly number[]; readonly measured?: PayloadReader },
  ) {
    this.#request = request;
    this.#measured = measured;
    this.#target = target;
    this.#sizes = sizes;
    this.#layout = layOutData(
      request.payloads.map(({ name, mode }, i) => ({ name, mode, sizeBytes: sizes[i] ?? 0 })),
    );
  }

  #reader(stage: string): PayloadReader {
    return new PayloadReader(this.#request, stage, this.#measured);
  }

  #coded(reader: PayloadReader): AsyncIterable<Uint8Array> {
    const facts = this.#request.payloads.map(({ name }, i) => ({
      name,
      sizeBytes: this.#sizes[i] ?? 0,
    }));
    const { compressor } = this.#request;
    const [only, ...others] = facts;
    const coded = others.length === 0 ? reader.readCoded(0) : undefined;
    if (only !== undefined && coded !== undefined && compressor !== undefined) {
      const body = exactly(coded, only, (piece) => piece.plainBytes);
      return codeDataApart(this.#layout, body, compressor);
    }
    const bodies = facts.map((fact, i) => exactly(reader.read(i), fact, (piece) => piece.length));
    return codeData(this.#layout, bodies, this.#request);
  }

  async #head(digests: readonly Digest[], dataBytes: number, isFinal: boolean): Promise<Buffer> {
    const { compression, payloads, signer } = this.#request;
    const header = this.#request.header(digests);
    const names = payloads.filter((p) => !p.isAugmented).map((p) => p.name);
    const augmentTar = encodeAugmentHeaderTar(header);
    const parts = {
      header,
      compression,
      headerBytes: await codeSmall(encodeHeaderTar(header, names), this.#request),
      augmentHeaderBytes:
        augmentTar === undefined ? undefined : await codeSmall(augmentTar, this.#request),
      files: payloads.map(({ name, isAugmented }, i) => ({
        name,
        isAugmented,
        digest: digests[i] ?? UNKNOWN_DIGEST,
      })),
    };
    const forcePax = compression !== 'none' && this.#layout.sizeBytes > MAY_NEED_PAX_BYTES;
    const signatureFile =
      signer === undefined || isFinal
        ? await this.#sign(encodeManifests(parts).manifest)
        : Buffer.alloc(signer.signatureFileBytes ?? 0);
    return encodeHead({ ...parts, signatureFile, dataBytes, forcePax });
  }

  /** Signs each manifest once: a signer may be a device with a button. */
  async #sign(manifest: Buffer): Promise<Buffer | undefined> {
    if (this.#signed?.manifest.equals(manifest) !== true) {
      const signatureFile = await this.#request.signer?.sign(manifest);
      this.#signed = { manifest, signatureFile };
    }
    return this.#signed.signatureFile;
  }

  /**
   * Finds out how long the coded data is, for a target that cannot be patched; keeps it when it is
   * small.
   */
  async #countCoded(): Promise<{ dataBytes: number; kept: Uint8Array[] | undefined }> {
    let dataBytes = 0;
    let kept: Uint8Array[] | undefined = [];
    for await (const piece of this.#coded(this.#reader('measuring'))) {
      dataBytes += piece.byteLength;
      if (dataBytes > KEPT_DATA_BYTES) kept = undefined;
      kept?.push(Buffer.from(piece));
    }
    return { dataBytes, kept };
  }

  /**
   * Writes in one pass and puts the head right at the end.
   *
   * @param known the digests, or undefined where they are found on the way
   */
  async writeAndPatch(
    patch: (bytes: Uint8Array) => Promise<void>,
    known: readonly Digest[] | undefined,
  ): Promise<WrittenArtifact> {
    const assumed = known ?? this.#request.payloads.map(() => UNKNOWN_DIGEST);
    const provisional = await this.#head(assumed, 0, known !== undefined);
    await this.#target.write(provisional);
    const reader = this.#reader('writing the payload');
    let dataBytes = 0;
    for await (const piece of this.#coded(reader)) {
      dataBytes += piece.byteLength;
      await this.#target.write(piece);
    }
    if (known !== undefined) expectSame(known, reader.digests);
    const tail = encodeTail(dataBytes);
    await this.#target.write(tail);
    const head = await this.#head(reader.digests, dataBytes, true);
    if (head.length !== provisional.length) {
      throw new RangeError(`the head has ${head.length} bytes, ${provisional.length} were kept`);
    }
    await patch(head);
    return { sizeBytes: head.length + dataBytes + tail.length, digests: reader.digests };
  }

  /** Writes front to back, for a target that cannot be patched. */
  async writeThrough(digests: readonly Digest[]): Promise<WrittenArtifact> {
    const { dataBytes, kept } =
      this.#request.compression === 'none'
        ? { dataBytes: this.#layout.sizeBytes, kept: undefined }
        : await this.#countCoded();
    const head = await this.#head(digests, dataBytes, true);
    await this.#target.write(head);
    let writtenBytes = 0;
    const reader = this.#reader('writing the payload');
    for await (const piece of kept ?? this.#coded(reader)) {
      writtenBytes += piece.byteLength;
      await this.#target.write(piece);
    }
    if (kept === undefined) expectSame(digests, reader.digests);
    if (writtenBytes !== dataBytes) throw new IngotError('content-changed', CHANGED);
    const tail = encodeTail(dataBytes);
    await this.#target.write(tail);
    return { sizeBytes: head.length + dataBytes + tail.length, digests };
  }
}

function expectSame(before: readonly Digest[], now: readonly Digest[]): void {
  if (before.some((digest, i) => digest !== now[i])) {
    throw new IngotError('content-changed', CHANGED);
  }
}

/**
 * Writes a Mender Artifact.
 *
 * Each payload is read once where its size is known, the compression is gzip or none and the target
 * can be patched; else it is read to its end first. Nothing is copied to a temporary file, and equal
 * requests give equal bytes either way.
 *
 * @throws IngotError `source-size-mismatch` and `content-changed` when a payload changes meanwhile;
 *   failures of the payloads, the signer and the target as they are
 * @see docs/formats/mender-artifact.md
 */
export async function writeArtifact(
  request: WriteArtifactRequest,
  target: ArtifactTarget,
): Promise<WrittenArtifact> {
  const { payloads, compression, signer } = request;
  const known = payloads.map((payload) => payload.sizeBytes).filter((size) => size !== undefined);
  const isHeadCertain =
    (compression === 'none' || compression === 'gzip') &&
    (signer === undefined || signer.signatureFileBytes !== undefined);
  if (target.patch !== undefined && isHeadCertain && known.length === payloads.length) {
    const writer = new ArtifactWriter(request, target, { sizes: known });
    return writer.writeAndPatch(target.patch, undefined);
  }
  const measured = await measure(request);
  const { digests, sizes } = measured;
  const writer = new ArtifactWriter(request, target, { sizes, measured });
  return target.patch === undefined
    ? writer.writeThrough(digests)
    : writer.writeAndPatch(target.patch, digests);
}
