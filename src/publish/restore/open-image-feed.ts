import { IngotError } from '../../base/index.ts';
import type { OpenChunk, OpenEntry, OpenImage } from '../../keep/index.ts';
import type { FeedChunk, FeedEntry, FeedPage, RestoreFeed } from './restore-feed.ts';

/** Pages at work at once: batches of a restore lie close together. */
const MAX_KEPT_PAGES = 8;

/** Feeds a restore from an image that the library holds open. Disposal closes the image. */
export class OpenImageFeed implements RestoreFeed {
  readonly name: string;
  readonly sizeBytes: number;
  readonly pages: readonly FeedPage[];
  readonly #image: OpenImage;
  readonly #pages = new Map<number, Promise<readonly OpenEntry[]>>();

  constructor(image: OpenImage) {
    this.#image = image;
    this.name = image.image.id;
    this.sizeBytes = image.image.virtualSizeBytes;
    this.pages = image.pages;
  }

  async page(index: number): Promise<readonly FeedEntry[]> {
    const entries = await this.#entries(index);
    return entries.map(
      (entry, entryIndex): FeedEntry =>
        entry.kind === 'hole'
          ? entry
          : {
              kind: 'chunk',
              digest: entry.digest,
              lengthBytes: entry.lengthBytes,
              pageIndex: index,
              entryIndex,
            },
    );
  }

  async readCoded(chunks: readonly FeedChunk[], signal?: AbortSignal): Promise<Buffer[]> {
    const found: OpenChunk[] = [];
    for (const chunk of chunks) {
      const entry = (await this.#entries(chunk.pageIndex))[chunk.entryIndex];
      if (entry?.kind !== 'chunk' || entry.digest !== chunk.digest) {
        throw new IngotError('chunk-missing', `${this.name} has no chunk ${chunk.digest} there`);
      }
      found.push(entry);
    }
    return await this.#image.readCoded(found, signal);
  }

  giveBack(): void {
    // The library may have given the same memory to others.
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#pages.clear();
    await this.#image[Symbol.asyncDispose]();
  }

  #entries(index: number): Promise<readonly OpenEntry[]> {
    const known = this.#pages.get(index);
    this.#pages.delete(index);
    const page = known ?? this.#image.page(index);
    this.#pages.set(index, page);
    // A page that could not be read may be readable the next time.
    if (known === undefined) page.catch(() => this.#pages.delete(index));
    for (const oldest of this.#pages.keys()) {
      if (this.#pages.size <= MAX_KEPT_PAGES) break;
      this.#pages.delete(oldest);
    }
    return page;
  }
}
