import { createHash } from 'node:crypto';
import { type Digest, digestOf, IngotError } from '../../base/index.ts';
import { ByteStream } from '../byte-stream.ts';
import { type Compression, compressionOfExtension } from '../compression/compression.ts';
import { decompress } from '../compression/decompress.ts';
import { readTar, type TarEntry } from '../tar/tar-reader.ts';
import { expectArchiveEnd } from './archive-end.ts';
import type {
  Artifact,
  ArtifactHeader,
  AugmentHeader,
  OuterEntry,
  PayloadFile,
  SignatureState,
} from './artifact.ts';
import { type ParsedHeader, readAugmentHeader, readHeader } from './header-reader.ts';
import { malformedAt } from './json-shape.ts';
import { type ManifestLine, parseManifest } from './manifest.ts';
import { isPayloadName, nameFaults, refuseEscapes } from './rules.ts';
import { type ArtifactKey, isSignatureOf } from './signature.ts';
import { type FormatVersion, parseVersionFile } from './version-file.ts';

const ARCHIVE = 'the artifact';
const MAX_VERSION_BYTES = 4096;
const MAX_MANIFEST_BYTES = 16 * 1024 * 1024;
const MAX_SIGNATURE_BYTES = 64 * 1024;
/** A header that is compressed or not; its plain bytes have a limit of their own. */
const MAX_STORED_HEADER_BYTES = 128 * 1024 * 1024;

/** A payload file while it is read. Its digest is known only at its end. */
export interface PayloadFileStart {
  readonly name: string;
  readonly sizeBytes: number;
  readonly mode: number;
  readonly mtimeSeconds: number;
  /** What the manifest promises. */
  readonly digest: Digest;
  readonly isAugmented: boolean;
}

/** What a caller does with an artifact while it is read. */
export interface ReadArtifactOptions {
  /** Checks the signature; without it the state is `unchecked`. */
  readonly key?: ArtifactKey | undefined;
  /** Whether values that newer tools refuse (over 256 bytes, not printing) are failures. */
  readonly refuseBadNames?: boolean;
  /** Called before the payload is read; what it throws ends the reading. */
  onHeader?(header: ArtifactHeader, signature: SignatureState): Promise<void> | void;
  /**
   * Takes one payload file. What it leaves of `body` is read and checked all the same; it must not
   * trust the bytes before {@link readArtifact} has returned.
   */
  onPayloadFile?(file: PayloadFileStart, body: AsyncIterable<Uint8Array>): Promise<void>;
}

async function small(entry: TarEntry, maxBytes: number): Promise<Buffer> {
  if (entry.sizeBytes > maxBytes) {
    throw malformedAt(ARCHIVE, `${entry.name} has ${entry.sizeBytes} bytes, more than ${maxBytes}`);
  }
  const pieces: Buffer[] = [];
  for await (const piece of entry.body()) pieces.push(Buffer.from(piece));
  return Buffer.concat(pieces);
}

/** The manifest's lines, each of which must be met exactly once. */
class Ledger {
  readonly #lines = new Map<string, { digest: Digest; isAugmented: boolean; isMet: boolean }>();

  add(lines: readonly ManifestLine[], isAugmented: boolean): void {
    for (const { name, digest } of lines) {
      if (this.#lines.has(name)) throw malformedAt('manifest-augment', `names ${name} again`);
      this.#lines.set(name, { digest, isAugmented, isMet: false });
    }
  }

  promise(name: string): { digest: Digest; isAugmented: boolean } {
    const line = this.#lines.get(name);
    if (line === undefined) throw malformedAt(ARCHIVE, `the manifest does not name ${name}`);
    if (line.isMet) throw malformedAt(ARCHIVE, `${name} is there twice`);
    line.isMet = true;
    return line;
  }

  meet(name: string, digest: Digest): void {
    const promised = this.promise(name).digest;
    expectDigest(name, { promised, found: digest });
  }

  expectAllMet(): void {
    const missing = [...this.#lines].filter(([, line]) => !line.isMet).map(([name]) => name);
    if (missing.length > 0) {
      throw malformedAt(ARCHIVE, `the manifest names ${missing.slice(0, 5).join(', ')}, not found`);
    }
  }
}

function expectDigest(
  name: string,
  { promised, found }: { readonly promised: Digest; readonly found: Digest },
): void {
  if (promised === found) return;
  throw new IngotError(
    'artifact-malformed',
    `${name} has the digest ${found}, the manifest says ${promised}`,
    { name, promised, found },
  );
}

/** `header.tar.gz` → gzip; undefined for other names. */
function compressionOf(name: string, stem: string): Compression | undefined {
  return name.startsWith(stem) ? compressionOfExtension(name.slice(stem.length)) : undefined;
}

async function* hashed(
  source: AsyncIterable<Uint8Array>,
  hash: { update(piece: Uint8Array): unknown },
): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const piece of source) {
    hash.update(piece);
    yield piece;
  }
}

/** Walks the outer archive; {@link readArtifact} is its door. */
class ArtifactReader {
  readonly #options: ReadArtifactOptions;
  readonly #ledger = new Ledger();
  readonly #entries: OuterEntry[] = [];
  readonly #files: PayloadFile[] = [];
  readonly #notices: string[] = [];
  #version: FormatVersion = 3;
  #versionDigest: Digest | undefined;
  #manifestBytes: Buffer = Buffer.alloc(0);
  #manifest: ManifestLine[] = [];
  #hasAugmentManifest = false;
  #signature: SignatureState = 'absent';
  #signatureFile: Buffer | undefined;
  #header: ParsedHeader | undefined;
  #compression: Compression = 'none';
  #augment: AugmentHeader | undefined;

  constructor(options: ReadArtifactOptions) {
    this.#options = options;
  }

  async #readVersion(entry: TarEntry): Promise<void> {
    if (entry.name !== 'version') {
      throw malformedAt(ARCHIVE, `begins with ${JSON.stringify(entry.name)}, not with version`);
    }
    const bytes = await small(entry, MAX_VERSION_BYTES);
    this.#version = parseVersionFile(bytes);
    this.#versionDigest = digestOf(bytes);
  }

  async #readManifest(entry: TarEntry): Promise<void> {
    this.#manifestBytes = await small(entry, MAX_MANIFEST_BYTES);
    this.#manifest = parseManifest(this.#manifestBytes, 'manifest');
    this.#ledger.add(this.#manifest, false);
    if (this.#versionDigest !== undefined) this.#ledger.meet('version', this.#versionDigest);
  }

  async #readSignature(entry: TarEntry): Promise<void> {
    this.#signatureFile = await small(entry, MAX_SIGNATURE_BYTES);
    const { key } = this.#options;
    if (key === undefined) {
      this.#signature = 'unchecked';
      return;
    }
    const isRight = isSignatureOf(key, {
      manifest: this.#manifestBytes,
      signatureFile: this.#signatureFile,
    });
    this.#signature = isRight ? 'right' : 'wrong';
  }

  /** Gives the plain bytes of a header to `read` and checks the digest of the stored ones. */
  async #checkedHeader<T>(
    entry: TarEntry,
    compression: Compression,
    read: (plain: AsyncIterable<Uint8Array>) => Promise<T>,
  ): Promise<T> {
    if (entry.sizeBytes > MAX_STORED_HEADER_BYTES) {
      throw malformedAt(ARCHIVE, `${entry.name} has ${entry.sizeBytes} bytes, which is too much`);
    }
    const { digest } = this.#ledger.promise(entry.name);
    const hash = createHash('sha256');
    const stored = hashed(entry.body(), hash);
    const parsed = await read(decompress(compression, stored, entry.name));
    const found = hash.digest('hex') as Digest;
    expectDigest(entry.name, { promised: digest, found });
    return parsed;
  }

  async #readHeader(entry: TarEntry, compression: Compression): Promise<void> {
    this.#compression = compression;
    const options = { archive: entry.name, version: this.#version };
    this.#header = await this.#checkedHeader(entry, compression, (plain) =>
      readHeader(plain, options),
    );
    this.#notices.push(...this.#header.notices);
    for (const fault of nameFaults(this.#header.info)) {
      if (this.#options.refuseBadNames === true) throw malformedAt('header-info', fault);
      this.#notices.push(fault);
    }
  }

  async #readPayloadFile(entry: TarEntry, archive: string): Promise<void> {
    if (entry.type !== 'file') {
      throw malformedAt(archive, `${JSON.stringify(entry.name)} is no regular file`);
    }
    if (!isPayloadName(entry.name)) {
      throw malformedAt(
        archive,
        `${JSON.stringify(entry.name.slice(0, 200))} has characters other than letters, digits and ".,_-"`,
      );
    }
    const promised = this.#ledger.promise(`data/0000/${entry.name}`);
    const { name, sizeBytes, mode, mtimeSeconds } = entry;
    const file = { name, sizeBytes, mode, mtimeSeconds, isAugmented: promised.isAugmented };
    const hash = createHash('sha256');
    const body = hashed(entry.body(), hash);
    await this.#options.onPayloadFile?.({ ...file, digest: promised.digest }, body);
    // A caller that stopped early ended the generator, not the entry: the rest is hashed here.
    for await (const piece of hashed(entry.body(), hash)) void piece;
    const found = hash.digest('hex') as Digest;
    expectDigest(`data/0000/${name}`, { promised: promised.digest, found });
    this.#files.push({ ...file, digest: found });
  }

  async #readData(entry: TarEntry, compression: Compression): Promise<void> {
    const stream = new ByteStream(decompress(compression, entry.body(), entry.name));
    try {
      for await (const file of readTar(stream, { archive: entry.name, end: 'optional' })) {
        refuseEscapes(file.name, entry.name);
        if (file.type !== 'directory') await this.#readPayloadFile(file, entry.name);
      }
      await expectArchiveEnd(stream, entry.name);
    } finally {
      await stream.close();
    }
  }

  #artifactHeader(): ArtifactHeader {
    if (this.#header === undefined) throw malformedAt(ARCHIVE, 'has no header');
    const { info, payload, scripts } = this.#header;
    return { version: this.#version, info, payload, scripts, augment: this.#augment };
  }

  /** Yields the outer entries; only regular files, only once. */
  async *#outer(stream: ByteStream): AsyncGenerator<TarEntry, void, undefined> {
    const names = new Set<string>();
    for await (const entry of readTar(stream, { archive: ARCHIVE, end: 'required' })) {
      refuseEscapes(entry.name, ARCHIVE);
      if (entry.type !== 'file') {
        throw malformedAt(ARCHIVE, `${JSON.stringify(entry.name)} is no regular file`);
      }
      if (names.has(entry.name)) throw malformedAt(ARCHIVE, `${entry.name} is there twice`);
      names.add(entry.name);
      const { name, startByte, bodyByte, sizeBytes } = entry;
      this.#entries.push({ name, startByte, bodyByte, sizeBytes });
      yield entry;
    }
  }

  /** Reads one entry at the place where it may stand. */
  async #step(entry: TarEntry, before: string | undefined): Promise<string> {
    const wrong = (): IngotError =>
      malformedAt(ARCHIVE, `${entry.name} stands after ${before ?? 'nothing'}, where it cannot`);
    const header = compressionOf(entry.name, 'header.tar');
    const augment = compressionOf(entry.name, 'header-augment.tar');
    const data = compressionOf(entry.name, 'data/0000.tar');
    const afterManifest = ['manifest', 'manifest.sig'].includes(before ?? '');
    if (before === undefined) {
      await this.#readVersion(entry);
    } else if (entry.name === 'manifest' && before === 'version') {
      await this.#readManifest(entry);
    } else if (entry.name === 'manifest.sig' && before === 'manifest') {
      await this.#readSignature(entry);
    } else if (entry.name === 'manifest-augment' && afterManifest && this.#version === 3) {
      this.#hasAugmentManifest = true;
      const bytes = await small(entry, MAX_MANIFEST_BYTES);
      this.#ledger.add(parseManifest(bytes, 'manifest-augment'), true);
    } else if (header !== undefined && (afterManifest || before === 'manifest-augment')) {
      await this.#readHeader(entry, header);
      return 'header';
    } else if (augment !== undefined && before === 'header' && this.#hasAugmentManifest) {
      this.#augment = await this.#checkedHeader(entry, augment, (plain) =>
        readAugmentHeader(plain, entry.name),
      );
      return 'header-augment';
    } else if (
      data !== undefined &&
      before === (this.#hasAugmentManifest ? 'header-augment' : 'header')
    ) {
      await this.#options.onHeader?.(this.#artifactHeader(), this.#signature);
      await this.#readData(entry, data);
      return 'data';
    } else {
      throw wrong();
    }
    return entry.name;
  }

  async read(stream: ByteStream): Promise<Artifact> {
    let before: string | undefined;
    for await (const entry of this.#outer(stream)) before = await this.#step(entry, before);
    if (before !== 'data') throw malformedAt(ARCHIVE, `ends after ${before ?? 'nothing'}`);
    await expectArchiveEnd(stream, ARCHIVE);
    this.#ledger.expectAllMet();
    const header = this.#artifactHeader();
    if (header.info.payloadType === null && this.#files.length > 0) {
      throw malformedAt(ARCHIVE, 'a bootstrap artifact must have no payload files');
    }
    return {
      ...header,
      compression: this.#compression,
      manifest: this.#manifest,
      manifestBytes: this.#manifestBytes,
      signature: this.#signature,
      signatureFile: this.#signatureFile,
      files: this.#files,
      entries: this.#entries,
      sizeBytes: stream.offsetBytes,
      notices: this.#notices,
    };
  }
}

/**
 * Reads a Mender Artifact of version 2 or 3 in one pass and bounded memory, and checks all of it:
 * order, names, every digest of the manifest, and the end.
 *
 * A wrong signature is no failure here; the caller judges {@link Artifact.signature}. Tolerated are
 * a type-info without a type for rootfs-image, PAX and GNU tar headers, folders inside archives,
 * DER signatures, gzip in several members.
 *
 * @throws IngotError `artifact-malformed`, `artifact-unsupported`, `compression-malformed`,
 *   `path-refused`; failures of `source` and of the callbacks as they are
 * @see docs/formats/mender-artifact.md
 */
export async function readArtifact(
  source: AsyncIterable<Uint8Array>,
  options: ReadArtifactOptions = {},
): Promise<Artifact> {
  const stream = new ByteStream(source);
  try {
    return await new ArtifactReader(options).read(stream);
  } finally {
    await stream.close();
  }
}
