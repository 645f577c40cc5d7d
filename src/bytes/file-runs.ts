import type { Extent, FileExtents } from './extent.ts';

/** A run of an extent that belongs to one file, or to none. */
export interface FileRun {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  /** Where it begins in its file; undefined: it belongs to no file. */
  readonly fileOffsetBytes: number | undefined;
}

/** Walks file extents in disk order, those that touch on the disk and in the file as one. */
class FileExtentWalk {
  readonly #extents: FileExtents;
  #index = 0;
  #startBytes = 0;
  #lengthBytes = 0;
  #fileOffsetBytes = 0;

  constructor(extents: FileExtents) {
    this.#extents = extents;
    this.#next();
  }

  /** Goes to the first extent that ends beyond `offsetBytes`; undefined when there is none. */
  seek(offsetBytes: number): FileRun | undefined {
    while (this.#lengthBytes > 0 && this.#startBytes + this.#lengthBytes <= offsetBytes) {
      this.#next();
    }
    if (this.#lengthBytes === 0) return undefined;
    return {
      offsetBytes: this.#startBytes,
      lengthBytes: this.#lengthBytes,
      fileOffsetBytes: this.#fileOffsetBytes,
    };
  }

  #next(): void {
    const { diskOffsets, lengths, fileOffsets } = this.#extents;
    this.#lengthBytes = 0;
    for (; this.#index < diskOffsets.length; this.#index++) {
      const start = diskOffsets[this.#index] ?? 0;
      const length = lengths[this.#index] ?? 0;
      const fileOffset = fileOffsets[this.#index] ?? 0;
      if (length <= 0) continue;
      if (this.#lengthBytes === 0) {
        this.#startBytes = start;
        this.#fileOffsetBytes = fileOffset;
        this.#lengthBytes = length;
      } else if (
        start === this.#startBytes + this.#lengthBytes &&
        fileOffset === this.#fileOffsetBytes + this.#lengthBytes
      ) {
        this.#lengthBytes += length;
      } else {
        return;
      }
    }
  }
}

/**
 * Splits extents into runs that belong to one file each, or to none.
 *
 * @param extents ascending and merged
 * @param files ascending, without overlaps; what lies outside of `extents` is left out
 * @returns for each extent, its runs in disk order, without gaps
 */
export function* fileRuns(
  extents: Iterable<Extent>,
  files: FileExtents,
): Generator<{ readonly extent: Extent; readonly runs: Iterable<FileRun> }, void, undefined> {
  const walk = new FileExtentWalk(files);
  for (const extent of extents) yield { extent, runs: runsOf(extent, walk) };
}

function* runsOf(extent: Extent, walk: FileExtentWalk): Generator<FileRun, void, undefined> {
  const end = extent.offsetBytes + extent.lengthBytes;
  let at = extent.offsetBytes;
  while (at < end) {
    const file = walk.seek(at);
    if (file === undefined || file.offsetBytes > at) {
      const next = Math.min(end, file?.offsetBytes ?? end);
      yield { offsetBytes: at, lengthBytes: next - at, fileOffsetBytes: undefined };
      at = next;
    } else {
      const next = Math.min(end, file.offsetBytes + file.lengthBytes);
      const skipped = at - file.offsetBytes;
      const fileOffsetBytes = (file.fileOffsetBytes ?? 0) + skipped;
      yield { offsetBytes: at, lengthBytes: next - at, fileOffsetBytes };
      at = next;
    }
  }
}
