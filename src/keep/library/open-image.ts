import type { Digest } from '../../base/index.ts';
import type { Image } from './image.ts';

/** Where a segment lies in the chunk store. Only the library that gave it reads it. */
export interface ChunkLocation {
  readonly packId: string;
  readonly offsetBytes: number;
}

/** One chunk of an open image: its name, its two lengths, its two CRCs and its place. */
export interface OpenChunk {
  readonly kind: 'chunk';
  readonly digest: Digest;
  readonly lengthBytes: number;
  readonly codedBytes: number;
  readonly plainCrc32: number;
  readonly codedCrc32: number;
  readonly location: ChunkLocation;
}

/** A run of zeros of an open image. */
export interface OpenHole {
  readonly kind: 'hole';
  readonly lengthBytes: number;
}

/** One extent of an open image, in disk order. */
export type OpenEntry = OpenChunk | OpenHole;

/** What is known of one manifest page without reading it. */
export interface OpenPage {
  readonly plainStartBytes: number;
  readonly plainBytes: number;
  /** Coded bytes of its chunks and of its holes as zero segments (`zeroSegmentsBytes`). */
  readonly codedBytes: number;
  /** CRC-32 of its plain bytes, holes included. */
  readonly plainCrc32: number;
}

/**
 * An image held open for reading: its chunks are not collected until disposal.
 *
 * Every implementation passes `test/contracts/open-image.ts`, and promises that:
 *
 * - the entries of all pages, in order, cover the whole disk;
 * - the coded form of a chunk stays the same while the image is open;
 * - several calls run at once.
 */
export interface OpenImage extends AsyncDisposable {
  readonly image: Image;
  /** Hash over (digest, coded length, coded CRC) of all chunks: names the exact coded bytes. */
  readonly codedTag: string;
  /** The manifest's pages in disk order; a page has at most 2048 entries. */
  readonly pages: readonly OpenPage[];
  /**
   * @param index 0 to `pages.length - 1`
   * @returns the entries of one page in disk order
   * @throws IngotError `manifest-invalid`, `chunk-missing`
   */
  page(index: number): Promise<readonly OpenEntry[]>;
  /**
   * Reads the coded bytes of chunks and checks each against its `codedCrc32`. Chunks that are
   * neighbours in the store are read in one go, so ask for a MiB or more at once.
   *
   * @param memory where the bytes may be put, as far as it reaches: who reads much reads into the
   *   same memory again, for the collector walks the heap for each 64 MB of new buffers
   * @returns one buffer per chunk, in the order asked; they may share memory and must not be written
   * @throws IngotError `chunk-corrupt`, `chunk-missing`
   */
  readCoded(chunks: readonly OpenChunk[], signal?: AbortSignal, memory?: Buffer): Promise<Buffer[]>;
}
