import { type Digest, KIB, MIB } from '../../base/index.ts';
import type { Segment } from '../../bytes/index.ts';

/** Where a chunk lies in a buffer. */
export interface Span {
  readonly startBytes: number;
  readonly lengthBytes: number;
}

/** A chunk whose name is known, in a lent buffer. */
export interface NamedSpan extends Span {
  readonly digest: Digest;
}

/** A segment, and where its plain bytes belong in a lent buffer. */
export interface CodedSpan extends NamedSpan {
  /** Workers that share its memory need no copy of it. */
  readonly coded: Uint8Array;
}

/** Memory that the workers see as well. Dispose it to give it back; it must not be used then. */
export interface LentBuffer extends Disposable {
  readonly bytes: Buffer;
}

/** Segments whose coded bytes lie one after another in lent memory, until they are disposed. */
export interface LentSegments extends Disposable {
  readonly segments: readonly Segment[];
}

/** The longest buffer that comes out of the pool, and the most plain bytes of one `encode`. */
export const LENT_BYTES = 4 * MIB + 640 * KIB;

/** Buffers of the pool that are lent at once: an import gathers in one and has the others in turn. */
export const LENT_AT_ONCE = 6;

/** Results of `encode` that are held at once; whoever holds them all and wants another waits for ever. */
export const LENT_SEGMENTS_AT_ONCE = 4;

/**
 * Hashes, codes and checks chunks, many in one call, on threads of their own.
 *
 * The bytes lie in memory that all threads share and that is used again and again: V8 collects its
 * whole heap once per 64 MB of new buffers, which cost a quarter of an import's time
 * (docs/performance.md).
 */
export interface ChunkWorkers extends AsyncDisposable {
  /**
   * Lends shared memory that begins at an address which O_DIRECT takes. Waits until there is some;
   * more than {@link LENT_BYTES} is made anew.
   */
  lend(lengthBytes: number): Promise<LentBuffer>;
  /** @returns the SHA-256 of each span, 32 bytes each, one after another */
  digests(bytes: Buffer, spans: readonly Span[]): Promise<Buffer>;
  /**
   * Codes spans of at most {@link LENT_BYTES} together, in their order.
   *
   * @param isCompared whether each segment is inflated again and compared with its chunk, while both
   *   are in the core's cache; one that differs is an Error, for the engine is wrong
   */
  encode(
    bytes: Buffer,
    chunks: readonly NamedSpan[],
    options: { readonly isCompared: boolean },
  ): Promise<LentSegments>;
  /**
   * Inflates segments and compares everything that they claim.
   *
   * @returns for each segment what is wrong with it, in words, or undefined
   */
  check(segments: readonly Segment[]): Promise<readonly (string | undefined)[]>;
  /**
   * Decodes segments, each to its place in lent memory, and compares what came out with its name.
   *
   * @param target after a problem it holds anything at the place of that segment
   * @returns for each segment what is wrong with it, in words, or undefined
   */
  decode(target: Buffer, segments: readonly CodedSpan[]): Promise<readonly (string | undefined)[]>;
}
