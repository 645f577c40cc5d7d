import { crc32, deflateRawSync, constants as zlib } from 'node:zlib';
import { digestOf, IngotError } from '../../src/base/index.ts';
import { zeroSegmentsBytes } from '../../src/bytes/index.ts';
import type { Image, OpenChunk, OpenEntry, OpenImage, OpenPage } from '../../src/keep/index.ts';

const CHUNK_BYTES = 64 * 1024;
const ENTRIES_PER_PAGE = 8;

/** An open image over a disk in memory: chunks of 64 KiB, few to a page. */
export class MemoryOpenImage implements OpenImage {
  readonly image: Image;
  readonly codedTag: string;
  readonly pages: readonly OpenPage[];
  readonly #pages: OpenEntry[][] = [];
  readonly #coded = new Map<string, Buffer>();
  isOpen = true;

  constructor(image: Image, plain: Buffer) {
    this.image = image;
    this.codedTag = digestOf(plain);
    const pageBytes = CHUNK_BYTES * ENTRIES_PER_PAGE;
    const pages: OpenPage[] = [];
    for (let start = 0; start < plain.length; start += pageBytes) {
      const page = plain.subarray(start, start + pageBytes);
      const entries: OpenEntry[] = [];
      for (let at = 0; at < page.length; at += CHUNK_BYTES) {
        entries.push(this.#entry(page.subarray(at, at + CHUNK_BYTES)));
      }
      this.#pages.push(entries);
      const codedBytes = entries.reduce(
        (sum, one) =>
          sum + (one.kind === 'chunk' ? one.codedBytes : zeroSegmentsBytes(one.lengthBytes)),
        0,
      );
      pages.push({
        plainStartBytes: start,
        plainBytes: page.length,
        codedBytes,
        plainCrc32: crc32(page),
      });
    }
    this.pages = pages;
  }

  async page(index: number): Promise<readonly OpenEntry[]> {
    this.#checkOpen();
    const page = this.#pages[index];
    if (page === undefined) throw new IngotError('manifest-invalid', `there is no page ${index}`);
    return page;
  }

  async readCoded(chunks: readonly OpenChunk[]): Promise<Buffer[]> {
    this.#checkOpen();
    return chunks.map(({ digest }) => {
      const coded = this.#coded.get(digest);
      if (coded === undefined) throw new IngotError('chunk-missing', `there is no ${digest}`);
      return coded;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.isOpen = false;
  }

  #entry(plain: Buffer): OpenEntry {
    if (plain.every((byte) => byte === 0)) return { kind: 'hole', lengthBytes: plain.length };
    const coded = deflateRawSync(plain, { finishFlush: zlib.Z_SYNC_FLUSH, level: 1 });
    const digest = digestOf(plain);
    this.#coded.set(digest, coded);
    return {
      kind: 'chunk',
      digest,
      lengthBytes: plain.length,
      codedBytes: coded.length,
      plainCrc32: crc32(plain),
      codedCrc32: crc32(coded),
      location: { packId: '0', offsetBytes: 0 },
    };
  }

  #checkOpen(): void {
    if (!this.isOpen) throw new Error('the image was closed');
  }
}
