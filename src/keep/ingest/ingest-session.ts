import type { Digest } from '../../base/index.ts';
import type { Segment } from '../../bytes/index.ts';
import type { CaptureFacts } from '../../capture/index.ts';
import type { Image, ImageDescription } from '../library/image.ts';

/** One extent of a manifest in disk order: a chunk, or a hole that reads as zeros. */
export type ManifestEntry =
  | { readonly kind: 'chunk'; readonly digest: Digest; readonly lengthBytes: number }
  | { readonly kind: 'hole'; readonly lengthBytes: number };

/** What an ingest is closed with. */
export interface IngestSummary {
  readonly sizeBytes: number;
  /** Name and version of the rule that cut the chunks, such as `file-extents-3`. */
  readonly chunkRule: string;
  readonly capture: CaptureFacts;
  /** SHA-256 of the whole plain disk, where the capture computed it. The library checks it. */
  readonly plainDigest: Digest | undefined;
}

/**
 * One image on its way into the library: which chunks are known, the others, the manifest.
 *
 * Every implementation passes `test/contracts/ingest-session.ts`, and promises that:
 *
 * - nothing is visible before `commit` returned; everything is durable after;
 * - a manifest may name only chunks that `have` granted or `put` delivered in this session;
 * - every segment is inflated and its digest compared before `commit` returns;
 * - `abort`, a dropped session and a crash leave no image and no bytes that gc cannot reclaim.
 */
export interface IngestSession {
  /**
   * Whether whoever puts segments must have made them, inflated them and compared them: a session in
   * the library's own process, which then does not check them again. Nothing that came from outside
   * may be put there.
   */
  readonly wantsCompared?: true;
  /** @returns for each digest, in order, whether it needs no `put` (at most 4096 in one call) */
  have(digests: readonly Digest[]): Promise<boolean[]>;
  /**
   * Delivers chunks, at most 16 MiB coded in one call. Putting one that is there changes nothing.
   * Calls may overlap: what was put first lies first.
   *
   * @throws IngotError `segment-malformed`, `library-full`, `ingest-expired`
   */
  put(segments: readonly Segment[]): Promise<void>;
  /**
   * Makes the image.
   *
   * @param entries in disk order, summing up to `sizeBytes`; consumed as a stream
   * @throws IngotError `manifest-invalid`, `chunk-missing`, `library-full`, `ingest-expired`
   */
  commit(entries: AsyncIterable<readonly ManifestEntry[]>, summary: IngestSummary): Promise<Image>;
  /** Gives up; safe after `commit` (does nothing then) and twice. */
  abort(): Promise<void>;
}

/** Opens sessions: the library itself, or a client of a daemon. */
export interface IngestTarget {
  begin(description: ImageDescription): Promise<IngestSession>;
}
