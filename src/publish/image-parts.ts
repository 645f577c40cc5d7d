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
    for await (const part of this.#parts(range)) {
      group.push(part);
      if (part.entry.kind === 'chunk') chunkBytes += this.#lengths.ofEntry(part.entry);
      if (chunkBytes >= groupBytes || group.length >= MAX_GROUP_PARTS) {
        yield group;
        group = [];
        chunkBytes = 0;
      }
    }
    if (group.length > 0) yield group;
  }

  async *#parts({
    startByte,
    endByte,
  }: {
    readonly startByte: number;
    readonly endByte: number;
  }): AsyncGenerator<ImagePart, void, undefined> {
    let pageIndex = this.#pages.partAt(startByte);
    for (let at = startByte; at < endByte; pageIndex++) {
      const pageStart = this.#pages.startOf(pageIndex);
      const pageEnd = this.#pages.startOf(pageIndex + 1);
      if (pageEnd === pageStart) continue;
      const entries = await this.#image.page(pageIndex);
      const table = new OffsetTable(entries.map(this.#lengths.ofEntry));
      if (table.totalBytes !== pageEnd - pageStart) {
        const { id } = this.#image.image;
        throw new IngotError(
          'manifest-invalid',
          `page ${pageIndex} of ${id} has ${table.totalBytes} bytes, not ${pageEnd - pageStart}`,
          { imageId: id, page: pageIndex },
        );
      }
      const stop = Math.min(pageEnd, endByte);
      for (let index = table.partAt(at - pageStart); at < stop; index++) {
        const entry = entries[index];
        if (entry === undefined) throw new RangeError(`page ${pageIndex} has no entry ${index}`);
        const entryStart = pageStart + table.startOf(index);
        const to = Math.min(stop, pageStart + table.startOf(index + 1)) - entryStart;
        if (to > 0) yield { entry, from: at - entryStart, to };
        at = entryStart + to;
      }
    }
  }
}

/** Refuses a range that is none of the file: a bug of whoever serves it. */
export function checkRange(startByte: number, endByte: number, sizeBytes: number): void {
  if (!(startByte >= 0 && startByte <= endByte && endByte <= sizeBytes)) {
    throw new RangeError(`bytes ${startByte} to ${endByte} of ${sizeBytes}`);
  }
}
