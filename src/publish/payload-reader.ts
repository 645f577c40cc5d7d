import { crc32 } from 'node:zlib';
import {
  type Digest,
  DigestBlocks,
  type DigestStream,
  type FileDigest,
  IngotError,
  inlineDigestStream,
  noProgress,
  type OnProgress,
} from '../base/index.ts';
import { combineCrc32, crc32OfZeros } from '../bytes/index.ts';
import {
  type ArtifactPayload,
  type CodedPiece,
  type DataCoding,
  keptBytesOf,
} from './artifact-data.ts';
import { isKnownZeros } from './known-zeros.ts';

/** What a reader of payloads must know of the artifact. */
export interface PayloadRequest extends DataCoding {
  readonly payloads: readonly ArtifactPayload[];
  /** Computes digests of large payloads; on this thread where it is left out. */
  readonly openDigestStream?: (() => DigestStream) | undefined;
  readonly onProgress?: OnProgress | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What is said of a payload that gives other bytes the second time. */
export const CHANGED = 'a payload file changed while it was read';

/** Below this a thread of its own costs more than it saves. */
const THREADED_BYTES = 16 * 1024 * 1024;

/** Reads payloads, computes their digests on the way and tells the progress. */
export class PayloadReader {
  readonly digests: Digest[] = [];
  readonly sizes: number[] = [];
  readonly #request: PayloadRequest;
  readonly #stage: string;
  /** Digests that were computed apart: they hold for later readings, if the CRC is the same. */
  readonly #apart: Map<number, FileDigest>;
  #doneBytes = 0;

  /** @param measured read the same payloads before */
  constructor(request: PayloadRequest, stage: string, measured?: PayloadReader) {
    this.#request = request;
    this.#stage = stage;
    this.#apart = measured === undefined ? new Map() : measured.#apart;
  }

  /** Finds digest and size of one payload. */
  async measure(index: number): Promise<void> {
    const apart = this.#apartOf(index);
    if (apart === undefined) {
      for await (const piece of this.read(index)) void piece;
      return;
    }
    const startBytes = this.#doneBytes;
    const { signal } = this.#request;
    const found = await apart({ signal, onBytes: (bytes) => this.#tell(startBytes + bytes) });
    this.#found(index, found, startBytes);
  }

  /** Yields the bytes of one payload; its digest and size are there when it has ended. */
  read(index: number): AsyncGenerator<Buffer, void, undefined> {
    const apart = this.#apartOf(index);
    if (apart === undefined) return this.#readHashing(index);
    const { signal, payloads } = this.#request;
    const keptBytes = keptBytesOf(this.#request);
    const allocate = (bytes: number): Buffer => Buffer.allocUnsafeSlow(bytes);
    const pieces = payloads[index]?.open({ signal, keptBytes, allocate }) ?? [];
    return this.#readBeside(index, apart, pieces);
  }

  /**
   * Yields one payload as segments, where others can read, hash and code it for gzip; its digest and
   * size are there when it has ended.
   */
  readCoded(index: number): AsyncGenerator<CodedPiece, void, undefined> | undefined {
    const { codeApart, sizeBytes = THREADED_BYTES } = this.#request.payloads[index] ?? {};
    const isGzip = this.#request.compression === 'gzip';
    if (codeApart === undefined || sizeBytes < THREADED_BYTES || !isGzip) return undefined;
    return this.#readCoded(index, codeApart);
  }

  #apartOf(index: number): ArtifactPayload['digestApart'] | undefined {
    const { digestApart, sizeBytes = THREADED_BYTES } = this.#request.payloads[index] ?? {};
    if (sizeBytes < THREADED_BYTES) return undefined;
    const known = this.#apart.get(index);
    return known === undefined ? digestApart : () => Promise.resolve(known);
  }

  async *#readHashing(index: number): AsyncGenerator<Buffer, void, undefined> {
    const { payloads, signal, openDigestStream } = this.#request;
    const payload = payloads[index];
    const isSmall = (payload?.sizeBytes ?? THREADED_BYTES) < THREADED_BYTES;
    await using stream = (isSmall ? undefined : openDigestStream?.()) ?? inlineDigestStream();
    const keptBytes = keptBytesOf(this.#request);
    const hash = new PayloadHash(stream, keptBytes);
    let sizeBytes = 0;
    const allocate = (bytes: number): Buffer => stream.allocate(bytes);
    for await (const piece of payload?.open({ signal, keptBytes, allocate }) ?? []) {
      signal?.throwIfAborted();
      await hash.update(piece);
      sizeBytes += piece.length;
      this.#tell(this.#doneBytes + piece.length);
      yield piece;
    }
    this.digests[index] = await hash.digest();
    this.sizes[index] = sizeBytes;
  }

  async *#readCoded(
    index: number,
    codeApart: NonNullable<ArtifactPayload['codeApart']>,
  ): AsyncGenerator<CodedPiece, void, undefined> {
    const startBytes = this.#doneBytes;
    const known = this.#apart.get(index);
    const found = yield* codeApart({
      digest: known?.digest,
      signal: this.#request.signal,
      onBytes: (bytes) => this.#tell(startBytes + bytes),
    });
    if (known !== undefined) expectSame(known, found);
    this.#found(index, found, startBytes);
  }

  /** Reads while the digest is computed from a reading of its own, and compares both. */
  async *#readBeside(
    index: number,
    apart: NonNullable<ArtifactPayload['digestApart']>,
    pieces: AsyncIterable<Buffer> | Iterable<Buffer>,
  ): AsyncGenerator<Buffer, void, undefined> {
    const stop = new AbortController();
    const { signal } = this.#request;
    const startBytes = this.#doneBytes;
    let hashedBytes = 0;
    const sum = new PayloadSum(this.#request);
    // What is behind tells how far both are.
    const tell = (): void => this.#tell(startBytes + Math.min(hashedBytes, sum.sizeBytes));
    const hashing = apart({
      signal: signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]),
      onBytes: (bytes) => {
        hashedBytes = bytes;
        tell();
      },
    });
    // Whoever stops reading before does not care.
    hashing.catch(() => undefined);
    try {
      for await (const piece of pieces) {
        signal?.throwIfAborted();
        sum.add(piece);
        tell();
        yield piece;
      }
      const found = await hashing;
      expectSame(found, { sizeBytes: sum.sizeBytes, crc32: sum.crc32() });
      this.#found(index, found, startBytes);
    } finally {
      stop.abort();
    }
  }

  #found(index: number, found: FileDigest, startBytes: number): void {
    this.#tell(startBytes + found.sizeBytes);
    this.#apart.set(index, found);
    this.digests[index] = found.digest;
    this.sizes[index] = found.sizeBytes;
  }

  #tell(doneBytes: number): void {
    this.#doneBytes = doneBytes;
    const { payloads, onProgress = noProgress } = this.#request;
    const sizes = payloads.map((payload) => payload.sizeBytes);
    const totalBytes = sizes.some((size) => size === undefined)
      ? undefined
      : sizes.reduce<number>((sum, size) => sum + (size ?? 0), 0);
    onProgress({ doneBytes, totalBytes, stage: this.#stage });
  }
}

type Sum = Pick<FileDigest, 'sizeBytes' | 'crc32'>;

/** @throws IngotError `content-changed` */
function expectSame(before: Sum, now: Sum): void {
  if (before.sizeBytes !== now.sizeBytes || before.crc32 !== now.crc32) {
    throw new IngotError('content-changed', CHANGED);
  }
}

/** CRC and length of one payload; holes cost nothing. */
class PayloadSum {
  sizeBytes = 0;
  readonly #crc32: (bytes: Uint8Array) => number;
  #value = 0;
  #zeroBytes = 0;

  constructor({ compressor }: DataCoding) {
    this.#crc32 = (bytes) => (compressor === undefined ? crc32(bytes) : compressor.crc32(bytes));
  }

  add(piece: Buffer): void {
    this.sizeBytes += piece.length;
    if (isKnownZeros(piece)) {
      this.#zeroBytes += piece.length;
      return;
    }
    this.#addZeros();
    this.#value = combineCrc32(this.#value, this.#crc32(piece), piece.length);
  }

  crc32(): number {
    this.#addZeros();
    return this.#value;
  }

  #addZeros(): void {
    if (this.#zeroBytes === 0) return;
    this.#value = combineCrc32(this.#value, crc32OfZeros(this.#zeroBytes), this.#zeroBytes);
    this.#zeroBytes = 0;
  }
}

/** The digest of one payload, some bytes behind what is read. */
class PayloadHash {
  readonly #stream: DigestStream;
  readonly #keptBytes: number;
  readonly #behind: { readonly sizeBytes: number; readonly hashed: Promise<void> }[] = [];
  #behindBytes = 0;
  /** For memory that another thread cannot see. */
  #copies: DigestBlocks | undefined;

  constructor(stream: DigestStream, keptBytes: number) {
    this.#stream = stream;
    this.#keptBytes = keptBytes;
  }

  /** @param piece stays unchanged until `keptBytes` more bytes were read */
  async update(piece: Buffer): Promise<void> {
    if (!(piece.buffer instanceof SharedArrayBuffer)) {
      this.#copies ??= new DigestBlocks(this.#stream);
      await this.#copies.add(piece);
      return;
    }
    this.#copies?.flush();
    const hashed = this.#stream.update(piece);
    // Waited for below; whoever stops reading before does not care.
    hashed.catch(() => undefined);
    this.#behind.push({ sizeBytes: piece.length, hashed });
    this.#behindBytes += piece.length;
    while (this.#behindBytes > this.#keptBytes) await this.#waitForOne();
  }

  async digest(): Promise<Digest> {
    await this.#copies?.end();
    while (this.#behind.length > 0) await this.#waitForOne();
    return await this.#stream.digest();
  }

  async #waitForOne(): Promise<void> {
    const oldest = this.#behind.shift();
    this.#behindBytes -= oldest?.sizeBytes ?? 0;
    await oldest?.hashed;
  }
}
