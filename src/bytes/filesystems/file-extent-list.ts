import type { FileExtents } from '../extent.ts';

/** More file extents than this are never held: 2^20 are 24 MiB of columns. */
const MAX_FILE_EXTENTS = 2 ** 20;

/**
 * Collects where files lie, in any order, in a bounded amount of memory.
 *
 * When it is full it forgets short extents: they would only have been collected into groups.
 */
export class FileExtentList {
  readonly #maxExtents: number;
  #diskOffsets = new Float64Array(256);
  #lengths = new Float64Array(256);
  #fileOffsets = new Float64Array(256);
  #length = 0;
  #shortestBytes = 0;

  constructor(maxExtents: number = MAX_FILE_EXTENTS) {
    this.#maxExtents = maxExtents;
  }

  /** Adds `lengthBytes` of a file, from `fileOffset` of the file on, that lie at `diskOffset`. */
  add(diskOffset: number, lengthBytes: number, fileOffset: number): void {
    if (lengthBytes <= 0 || lengthBytes < this.#shortestBytes) return;
    if (this.#length === this.#maxExtents) this.#forgetShort();
    if (this.#length === this.#diskOffsets.length) this.#grow();
    this.#diskOffsets[this.#length] = diskOffset;
    this.#lengths[this.#length] = lengthBytes;
    this.#fileOffsets[this.#length] = fileOffset;
    this.#length += 1;
  }

  /** Adds all of `extents`, which lie `offsetBytes` further on the disk. */
  addAll(extents: FileExtents, offsetBytes: number): void {
    for (let i = 0; i < extents.diskOffsets.length; i++) {
      this.add(
        (extents.diskOffsets[i] ?? 0) + offsetBytes,
        extents.lengths[i] ?? 0,
        extents.fileOffsets[i] ?? 0,
      );
    }
  }

  /**
   * Sorts by disk offset. Where two extents overlap (reflinks, a damaged filesystem) the second
   * keeps only what lies behind the first.
   */
  finish(): FileExtents {
    const disk = this.#diskOffsets;
    const order = new Uint32Array(this.#length).map((_, i) => i);
    order.sort(
      (a, b) =>
        (disk[a] ?? 0) - (disk[b] ?? 0) || (this.#lengths[b] ?? 0) - (this.#lengths[a] ?? 0),
    );
    const diskOffsets = new Float64Array(this.#length);
    const lengths = new Float64Array(this.#length);
    const fileOffsets = new Float64Array(this.#length);
    let kept = 0;
    let taken = 0;
    for (const i of order) {
      const start = disk[i] ?? 0;
      const end = start + (this.#lengths[i] ?? 0);
      const from = Math.max(start, taken);
      if (from >= end) continue;
      diskOffsets[kept] = from;
      lengths[kept] = end - from;
      fileOffsets[kept] = (this.#fileOffsets[i] ?? 0) + from - start;
      kept += 1;
      taken = end;
    }
    return {
      diskOffsets: diskOffsets.slice(0, kept),
      lengths: lengths.slice(0, kept),
      fileOffsets: fileOffsets.slice(0, kept),
    };
  }

  #grow(): void {
    const size = Math.min(this.#diskOffsets.length * 2, this.#maxExtents);
    const grown = (column: Float64Array): Float64Array<ArrayBuffer> => {
      const larger = new Float64Array(size);
      larger.set(column);
      return larger;
    };
    this.#diskOffsets = grown(this.#diskOffsets);
    this.#lengths = grown(this.#lengths);
    this.#fileOffsets = grown(this.#fileOffsets);
  }

  #forgetShort(): void {
    // Extents that several files share are in the list more than once.
    const once = this.finish();
    this.#length = once.diskOffsets.length;
    this.#diskOffsets.set(once.diskOffsets);
    this.#lengths.set(once.lengths);
    this.#fileOffsets.set(once.fileOffsets);
    while (this.#length > this.#maxExtents / 2) {
      this.#shortestBytes = Math.max(8192, this.#shortestBytes * 2);
      let kept = 0;
      for (let i = 0; i < this.#length; i++) {
        if ((this.#lengths[i] ?? 0) < this.#shortestBytes) continue;
        this.#diskOffsets[kept] = this.#diskOffsets[i] ?? 0;
        this.#lengths[kept] = this.#lengths[i] ?? 0;
        this.#fileOffsets[kept] = this.#fileOffsets[i] ?? 0;
        kept += 1;
      }
      this.#length = kept;
    }
  }
}
