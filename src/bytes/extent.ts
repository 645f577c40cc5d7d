/** A run of bytes of a disk. Both numbers are whole bytes. */
export interface Extent {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/**
 * Where the blocks of files lie on a disk, in ascending disk order, without overlaps.
 *
 * Three columns of equal length instead of objects: a root filesystem has 10^5 extents. All numbers
 * are bytes of the whole disk (a partition's offset is added already).
 */
export interface FileExtents {
  readonly diskOffsets: Float64Array;
  readonly lengths: Float64Array;
  /** Where in its own file each extent begins: fragmentation must not move cuts. */
  readonly fileOffsets: Float64Array;
}

/**
 * Sorts extents and joins those that touch or overlap.
 *
 * @returns ascending extents with at least one byte between two of them
 */
export function mergeExtents(extents: Iterable<Extent>): Extent[] {
  const sorted = [...extents]
    .filter((e) => e.lengthBytes > 0)
    .sort((a, b) => a.offsetBytes - b.offsetBytes);
  const merged: Extent[] = [];
  for (const next of sorted) {
    const last = merged.at(-1);
    if (last !== undefined && next.offsetBytes <= last.offsetBytes + last.lengthBytes) {
      const end = Math.max(
        last.offsetBytes + last.lengthBytes,
        next.offsetBytes + next.lengthBytes,
      );
      merged[merged.length - 1] = {
        offsetBytes: last.offsetBytes,
        lengthBytes: end - last.offsetBytes,
      };
    } else {
      merged.push(next);
    }
  }
  return merged;
}

/** @returns how many bytes the extents hold together */
export function totalBytes(extents: Iterable<Extent>): number {
  let total = 0;
  for (const extent of extents) total += extent.lengthBytes;
  return total;
}
