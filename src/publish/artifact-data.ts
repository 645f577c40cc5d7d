import { crc32 } from 'node:zlib';
import { type Digest, type FileDigest, IngotError, MIB } from '../base/index.ts';
import {
  type Compression,
  combineCrc32,
  crc32OfZeros,
  type DataLayout,
  MAX_CHUNK_BYTES,
  releaseMemory,
  storedSegment,
  zeroSegments,
} from '../bytes/index.ts';
import type { StreamCompressor } from '../capture/index.ts';
import { isKnownZeros } from './known-zeros.ts';
import { inOrder } from './restore/in-order.ts';

/** How a payload is read. */
interface OpenPayload {
  readonly keptBytes: number;
  /** Gives memory that is read by another thread without a copy; any other will do. */
  readonly allocate: (sizeBytes: number) => Buffer;
  readonly signal: AbortSignal | undefined;
}

/** A file that becomes a payload file of an artifact. */
export interface ArtifactPayload {
  readonly name: string;
  /** Permission bits. */
  readonly mode: number;
  readonly isAugmented: boolean;
  /** Undefined when only reading to the end tells. */
  readonly sizeBytes: number | undefined;
  /**
   * Reads the file from its first byte; it is called once or twice and gives the same bytes.
   *
   * @returns pieces of any length; each stays unchanged until `keptBytes` more bytes were given out
   */
  open(options: OpenPayload): AsyncIterable<Buffer>;
  /**
   * Computes the digest beside {@link open}, from a reading of its own that waits for nobody; left
   * out where a file can be read only once. The CRC tells whether both read the same.
   *
   * @param options `onBytes` is told now and then how far it is
   */
  readonly digestApart?: (options: {
    readonly signal: AbortSignal | undefined;
    readonly onBytes: (doneBytes: number) => void;
  }) => Promise<FileDigest>;
  /**
   * Codes the file as a compressor for gzip would, in segments of `MAX_CHUNK_BYTES`, and computes the
   * digest of the same bytes; goes with {@link digestApart}.
   *
   * @param options `onBytes` is told now and then how far both are; `digest` is left out of the work
   *   when it is known, and the CRC tells whether it is that of these bytes
   * @returns pieces in order, each valid until the next is asked for, and then what they are together
   */
  readonly codeApart?: (options: CodeApartOptions) => AsyncGenerator<CodedPiece, FileDigest>;
}

/** How a payload is coded by others. */
export interface CodeApartOptions {
  readonly digest: Digest | undefined;
  readonly signal: AbortSignal | undefined;
  readonly onBytes: (doneBytes: number) => void;
}

/** How the data part is compressed; no compressor goes with `none`. */
export interface DataCoding {
  readonly compression: Compression;
  readonly compressor: StreamCompressor | undefined;
}

/** A piece of `data/0000.tar`: what tar adds, or payload. */
interface PlainPiece {
  readonly kind: 'frame' | 'payload';
  readonly bytes: Buffer;
}

/** Segments one behind the other, or so many zeros. */
export interface CodedPiece {
  /** Memory that nobody else has, or that threads share; undefined for zeros. */
  readonly own: Uint8Array | undefined;
  readonly crc32: number;
  readonly plainBytes: number;
}

/** Bytes that another thread may be behind with their digest. */
const HASHED_BEHIND_BYTES = 4 * MIB;

/** @returns how many bytes behind the newest one are still in use while data is coded and hashed */
export function keptBytesOf({ compressor }: DataCoding): number {
  if (compressor === undefined) return HASHED_BEHIND_BYTES;
  // One piece is being put together, one is handed over, the others are under way.
  const largest = Math.max(compressor.pieceBytes, MAX_CHUNK_BYTES);
  return Math.max((compressor.piecesInFlight + 2) * largest, HASHED_BEHIND_BYTES);
}

const run = <T>(job: () => Promise<T>): Promise<T> => job();

const ZEROS = Buffer.alloc(MAX_CHUNK_BYTES);

/** Cuts a stream into pieces of equal length; only the last one is shorter. */
async function* inEqualPieces(
  source: AsyncIterable<Buffer>,
  pieceBytes: number,
): AsyncGenerator<Buffer, void, undefined> {
  let held: Buffer[] = [];
  let heldBytes = 0;
  for await (const piece of source) {
    let at = 0;
    while (heldBytes + piece.length - at >= pieceBytes) {
      const end = at + pieceBytes - heldBytes;
      const part = piece.subarray(at, end);
      yield heldBytes === 0 ? part : Buffer.concat([...held, part]);
      held = [];
      heldBytes = 0;
      at = end;
    }
    if (at < piece.length) {
      held.push(piece.subarray(at));
      heldBytes += piece.length - at;
    }
  }
  if (heldBytes > 0) yield Buffer.concat(held);
}

/** The pieces of `data/0000.tar` in order, each payload file cut from its own start. */
async function* plainPieces(
  layout: DataLayout,
  bodies: readonly AsyncIterable<Buffer>[],
): AsyncGenerator<PlainPiece, void, undefined> {
  for (const [i, body] of bodies.entries()) {
    const bytes = layout.before[i];
    if (bytes === undefined) throw new RangeError(`the layout has no file ${i}`);
    yield { kind: 'frame', bytes };
    for await (const piece of inEqualPieces(body, MAX_CHUNK_BYTES)) {
      yield { kind: 'payload', bytes: piece };
    }
  }
  yield { kind: 'frame', bytes: layout.end };
}

/**
 * Codes pieces as segments: frames are stored, zeros only counted.
 *
 * Zeros in a buffer that is used again take a turn like everything else: only so many pieces may be
 * given out while the oldest is still coded. Known ones lie in no such buffer.
 */
async function* segmentJobs(
  pieces: AsyncIterable<PlainPiece>,
  compressor: StreamCompressor,
): AsyncGenerator<() => Promise<CodedPiece>, void, undefined> {
  let holeBytes = 0;
  const zeros = (plainBytes: number) => (): Promise<CodedPiece> =>
    Promise.resolve({ own: undefined, crc32: crc32OfZeros(plainBytes), plainBytes });
  for await (const { kind, bytes } of pieces) {
    if (isKnownZeros(bytes)) {
      holeBytes += bytes.length;
      continue;
    }
    if (holeBytes > 0) yield zeros(holeBytes);
    holeBytes = 0;
    if (kind === 'payload' && bytes.equals(ZEROS.subarray(0, bytes.length))) {
      yield zeros(bytes.length);
      continue;
    }
    yield async () => {
      const encoding = kind === 'frame' ? storedSegment(bytes) : compressor.encode(bytes);
      // While the engine is at work on its own thread.
      const plainCrc32 = compressor.crc32(bytes);
      return { own: await encoding, crc32: plainCrc32, plainBytes: bytes.length };
    };
  }
}

/** Puts pieces into one gzip member; zeros that follow each other become one run. */
async function* asGzip(
  pieces: AsyncIterable<CodedPiece>,
  compressor: StreamCompressor,
): AsyncGenerator<Uint8Array, void, undefined> {
  yield compressor.header;
  let plainCrc32 = 0;
  let lengthBytes = 0;
  let zeroBytes = 0;
  for await (const piece of pieces) {
    plainCrc32 = combineCrc32(plainCrc32, piece.crc32, piece.plainBytes);
    lengthBytes += piece.plainBytes;
    if (piece.own === undefined) {
      zeroBytes += piece.plainBytes;
      continue;
    }
    yield* zeroSegments(zeroBytes);
    zeroBytes = 0;
    yield piece.own;
    releaseMemory(piece.own);
  }
  yield* zeroSegments(zeroBytes);
  yield compressor.trailer({ crc32: plainCrc32, lengthBytes });
}

async function* bytesOf(
  pieces: AsyncIterable<PlainPiece>,
): AsyncGenerator<Buffer, void, undefined> {
  for await (const piece of pieces) yield piece.bytes;
}

/** Codes the stream in large pieces: .xz streams or zstd frames, one after another. */
async function* asFrames(
  pieces: AsyncIterable<PlainPiece>,
  compressor: StreamCompressor,
): AsyncGenerator<Uint8Array, void, undefined> {
  let plainCrc32 = 0;
  let lengthBytes = 0;
  async function* jobs(): AsyncGenerator<() => Promise<Uint8Array>, void, undefined> {
    for await (const piece of inEqualPieces(bytesOf(pieces), compressor.pieceBytes)) {
      plainCrc32 = combineCrc32(plainCrc32, compressor.crc32(piece), piece.length);
      lengthBytes += piece.length;
      yield () => compressor.encode(piece);
    }
  }
  yield compressor.header;
  yield* inOrder(jobs(), run, { limit: compressor.piecesInFlight });
  yield compressor.trailer({ crc32: plainCrc32, lengthBytes });
}

/**
 * Codes `data/0000.tar` as it is stored, on all cores and in bounded memory. Equal bytes and equal
 * engines give equal results.
 *
 * @param bodies of the files that `layout` was made for, in its order and with their sizes
 * @returns pieces that are valid until the next is asked for
 * @see docs/formats/mender-artifact.md "data/0000.tar"
 */
export function codeData(
  layout: DataLayout,
  bodies: readonly AsyncIterable<Buffer>[],
  { compression, compressor }: DataCoding,
): AsyncIterable<Uint8Array> {
  const pieces = plainPieces(layout, bodies);
  if (compression === 'none' || compressor === undefined) return bytesOf(pieces);
  if (compression !== 'gzip') return asFrames(pieces, compressor);
  const limit = compressor.piecesInFlight;
  return asGzip(inOrder(segmentJobs(pieces, compressor), run, { limit }), compressor);
}

/**
 * The same as {@link codeData} for one file that is coded by others, with gzip.
 *
 * @param body the pieces of the file that `layout` was made for
 */
export function codeDataApart(
  layout: DataLayout,
  body: AsyncIterable<CodedPiece>,
  compressor: StreamCompressor,
): AsyncIterable<Uint8Array> {
  const frame = (bytes: Buffer): CodedPiece => ({
    own: storedSegment(bytes),
    crc32: compressor.crc32(bytes),
    plainBytes: bytes.length,
  });
  async function* pieces(): AsyncGenerator<CodedPiece, void, undefined> {
    for (const bytes of layout.before) yield frame(bytes);
    yield* body;
    yield frame(layout.end);
  }
  return asGzip(pieces(), compressor);
}

/**
 * Codes a small archive that is wholly in memory, such as `header.tar`.
 *
 * The gzip form is stored and not deflated: its length then depends on the plain length alone.
 */
export async function codeSmall(
  plain: Buffer,
  { compression, compressor }: DataCoding,
): Promise<Buffer> {
  if (compression === 'none' || compressor === undefined) return plain;
  const lengthBytes = plain.length;
  const middle = compression === 'gzip' ? storedSegment(plain) : await compressor.encode(plain);
  const end = compressor.trailer({ crc32: crc32(plain), lengthBytes });
  return Buffer.concat([compressor.header, middle, end]);
}

/**
 * Passes a payload on and checks that it has the length that its tar header promises.
 *
 * @param lengthOf tells the plain length of a piece
 * @throws IngotError `source-size-mismatch`
 */
export async function* exactly<T>(
  source: AsyncIterable<T>,
  { name, sizeBytes }: { readonly name: string; readonly sizeBytes: number },
  lengthOf: (piece: T) => number,
): AsyncGenerator<T, void, undefined> {
  let gotBytes = 0;
  for await (const piece of source) {
    gotBytes += lengthOf(piece);
    if (gotBytes > sizeBytes) break;
    yield piece;
  }
  if (gotBytes !== sizeBytes) {
    throw new IngotError(
      'source-size-mismatch',
      `${name} gave ${gotBytes > sizeBytes ? 'more than' : gotBytes} of ${sizeBytes} bytes; did it change?`,
      { name, sizeBytes, gotBytes },
    );
  }
}
