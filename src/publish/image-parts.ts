import { IngotError } from '../base/index.ts';
import { OffsetTable } from '../bytes/index.ts';
import type { OpenEntry, OpenImage, OpenPage } from '../keep/index.ts';

/** How long pages and entries are in one of an image's forms, plain or coded. */
export interface FormLengths {
  readonly ofPage: (page: OpenPage) => number;
  readonly ofEntry: (entry: OpenEntry) => number;
}

/** The part of an entry that a range needs, in bytes of the form: `from` up to before `to`. */
export interface ImagePart {
  readonly entry: OpenEntry;
  readonly from: number;
  readonly to: number;
}

/** Parts that are read together. */
export type PartGroup = readonly ImagePart[];

/** More parts than this in a group gain nothing and take memory. */
const MAX_GROUP_PARTS = 512;

/** Finds what holds any range of an image in one of its forms; holds one page of entries. */
export class ImageParts {
  readonly #image: OpenImage;
  readonly #lengths: FormLengths;
  readonly #pages: OffsetTable;

  constructor(image: OpenImage, lengths: FormLengths) {
    this.#image = image;
    this.#lengths = lengths;
    this.#pages = new OffsetTable(image.pages.map(lengths.ofPage));
  }

  /** How long the whole form is. */
  get sizeBytes(): number {
    return this.#pages.totalBytes;
  }

  /**
   * Walks a range in order.
   *
   * @param groupBytes a group ends once its chunks have so many bytes in this form
   * @throws IngotError `manifest-invalid` when a page is not as long as it was announced
   */
  async *groups(
    range: { readonly startByte: number; readonly endByte: number },
    groupBytes: number,
  ): AsyncGenerator<PartGroup, void, undefined> {
    let group: ImagePart[] = [];
    let chunkBytes = 0;
    for await (const page of this.#pagesIn(range)) {
      // One wait for a page, and none for each of its parts.
      for (const part of partsOf(page)) {
        group.push(part);
        if (part.entry.kind === 'chunk') chunkBytes += this.#lengths.ofEntry(part.entry);
        if (chunkBytes >= groupBytes || group.length >= MAX_GROUP_PARTS) {
          yield group;
          group = [];
          chunkBytes = 0;
        }
      }
    }
    if (group.length > 0) yield group;
  }

  async *#pagesIn({
    startByte,
    endByte,
  }: {
    readonly startByte: number;
    readonly endByte: number;
  }): AsyncGenerator<PagePart, void, undefined> {
    for (let index = this.#pages.partAt(startByte); ; index++) {
      const pageStart = index < this.#image.pages.length ? this.#pages.startOf(index) : endByte;
      if (pageStart >= endByte) return;
      const pageEnd = this.#pages.startOf(index + 1);
      if (pageEnd === pageStart) continue;
      const entries = await this.#image.page(index);
      // The next one is looked up while this one goes out; who takes it hears of its failure.
      if (pageEnd < endByte) this.#image.page(index + 1).catch(() => undefined);
      const table = new OffsetTable(entries.map(this.#lengths.ofEntry));
      if (table.totalBytes !== pageEnd - pageStart) {
        const { id } = this.#image.image;
        throw new IngotError(
          'manifest-invalid',
          `page ${index} of ${id} has ${table.totalBytes} bytes, not ${pageEnd - pageStart}`,
          { imageId: id, page: index },
        );
      }
      const from = Math.max(startByte, pageStart) - pageStart;
      yield { entries, table, from, to: Math.min(pageEnd, endByte) - pageStart };
    }
  }
}

/** The part of a page that a range needs: `from` up to before `to`, in bytes of the form. */
interface PagePart {
  readonly entries: readonly OpenEntry[];
  readonly table: OffsetTable;
  readonly from: number;
  readonly to: number;
}

function* partsOf({ entries, table, from, to }: PagePart): Generator<ImagePart, void, undefined> {
  let at = from;
  for (let index = table.partAt(from); at < to; index++) {
    const entry = entries[index];
    if (entry === undefined) throw new RangeError(`a page has no entry ${index}`);
    const start = table.startOf(index);
    const end = Math.min(to, table.startOf(index + 1)) - start;
    if (end > 0) yield { entry, from: at - start, to: end };
    at = start + end;
  }
}

/** Refuses a range that is none of the file: a bug of whoever serves it. */
export function checkRange(startByte: number, endByte: number, sizeBytes: number): void {
  if (!(startByte >= 0 && startByte <= endByte && endByte <= sizeBytes)) {
    throw new RangeError(`bytes ${startByte} to ${endByte} of ${sizeBytes}`);
  }
}
