import { type Extent, mergeExtents } from '../../bytes/index.ts';

/** dd reads past the cache in blocks of this size; every filesystem's blocks are multiples. */
export const ALIGNMENT = 4096;
/** Starting dd on the device costs about as much as reading this many bytes. */
const JOIN_GAP_BYTES = 128 * 1024;
/** What one answer brings: less costs more starts of programs there, more costs memory here. */
const BATCH_BYTES = 4 * 1024 * 1024;
/**
 * The same where nothing is frozen meanwhile, so that a slow link may take its time, and where what
 * changes later is known by the sector. With 16 MiB the device's processor works a tenth less, but
 * this side needs 50 MB more.
 */
export const LARGE_BATCH_BYTES = 8 * 1024 * 1024;
/** The device's shell reads its command byte by byte: 64 ranges are about 1.5 KiB. */
const BATCH_RANGES = 64;

/** Ranges that are asked for in one command: ascending, without overlaps. */
export interface RangeBatch {
  readonly ranges: readonly Extent[];
  readonly offsetBytes: number;
  readonly endBytes: number;
}

/** @returns the first byte behind an extent */
export function endOf(extent: Extent): number {
  return extent.offsetBytes + extent.lengthBytes;
}

/** Makes extents whole blocks, ascending and without overlaps. */
export function alignedExtents(extents: readonly Extent[], sizeBytes: number): readonly Extent[] {
  const aligned = extents.flatMap((extent) => {
    const offsetBytes = extent.offsetBytes - (extent.offsetBytes % ALIGNMENT);
    const end = Math.min(sizeBytes, Math.ceil(endOf(extent) / ALIGNMENT) * ALIGNMENT);
    return end > offsetBytes ? [{ offsetBytes, lengthBytes: end - offsetBytes }] : [];
  });
  return mergeExtents(aligned);
}

/** @param holes ascending, without overlaps @returns what no hole covers of an extent */
export function subtract(extent: Extent, holes: readonly Extent[]): Extent[] {
  const left: Extent[] = [];
  const end = endOf(extent);
  let at = extent.offsetBytes;
  for (let index = firstBehind(holes, at); at < end; index += 1) {
    const hole = holes[index];
    const start = Math.min(hole?.offsetBytes ?? end, end);
    if (start > at) left.push({ offsetBytes: at, lengthBytes: start - at });
    if (hole === undefined) break;
    at = Math.max(at, endOf(hole));
  }
  return left;
}

/** The index of the extent that holds a byte, or of the next one behind it. */
export function firstBehind(extents: readonly Extent[], offsetBytes: number): number {
  let low = 0;
  let high = extents.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const extent = extents[middle];
    if (extent !== undefined && endOf(extent) <= offsetBytes) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Joins what lies close together, aligns it, and cuts it into pieces of at most a batch. */
function* wholeRanges(
  extents: readonly Extent[],
  { sizeBytes, joinGapBytes = JOIN_GAP_BYTES, batchBytes = BATCH_BYTES }: BatchPlan,
): Generator<Extent> {
  const aligned = extents.map((extent) => {
    const offsetBytes = extent.offsetBytes - (extent.offsetBytes % ALIGNMENT);
    const end = Math.min(sizeBytes, Math.ceil(endOf(extent) / ALIGNMENT) * ALIGNMENT);
    return { offsetBytes, lengthBytes: end - offsetBytes + joinGapBytes };
  });
  for (const { offsetBytes, lengthBytes } of mergeExtents(aligned)) {
    const end = offsetBytes + lengthBytes - joinGapBytes;
    for (let at = offsetBytes; at < end; ) {
      const next = Math.min(end, at - (at % batchBytes) + batchBytes);
      yield { offsetBytes: at, lengthBytes: next - at };
      at = next;
    }
  }
}

/** What extents are packed for. */
export interface BatchPlan {
  /** Of the disk; the last range may end inside a block. */
  readonly sizeBytes: number;
  /** Ranges with at most so much between them become one. */
  readonly joinGapBytes?: number;
  /** Plain bytes of one batch at most. */
  readonly batchBytes?: number;
}

/**
 * Packs extents into batches that one command each asks for.
 *
 * @param extents ascending
 */
export function planBatches(extents: readonly Extent[], plan: BatchPlan): RangeBatch[] {
  const { batchBytes = BATCH_BYTES } = plan;
  const batches: RangeBatch[] = [];
  let ranges: Extent[] = [];
  let lengthBytes = 0;
  const close = (): void => {
    const first = ranges[0];
    const last = ranges.at(-1);
    if (first === undefined || last === undefined) return;
    batches.push({ ranges, offsetBytes: first.offsetBytes, endBytes: endOf(last) });
    ranges = [];
    lengthBytes = 0;
  };
  for (const range of wholeRanges(extents, plan)) {
    if (lengthBytes + range.lengthBytes > batchBytes || ranges.length === BATCH_RANGES) close();
    ranges.push(range);
    lengthBytes += range.lengthBytes;
  }
  close();
  return batches;
}
