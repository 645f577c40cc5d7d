import type { Extent } from '../extent.ts';

/** More runs than this are never held: 2^18 runs are 4 MiB of columns. */
const MAX_RUNS = 2 ** 18;

/** What a full list does: a list of what to copy may only grow, a list of what to drop may only shrink. */
type WhenFull = 'join-gaps' | 'forget-short';

/**
 * Runs of bytes in any order, kept in a bounded amount of memory.
 *
 * A list that is full becomes coarser in the direction in which no data is lost: `join-gaps` joins
 * runs over short gaps (more is copied), `forget-short` forgets short runs (less is dropped).
 */
export class RunList {
  readonly #whenFull: WhenFull;
  readonly #maxRuns: number;
  #starts = new Float64Array(64);
  #ends = new Float64Array(64);
  #length = 0;
  #isSettled = true;
  #grainBytes = 0;

  constructor(whenFull: WhenFull, maxRuns: number = MAX_RUNS) {
    this.#whenFull = whenFull;
    this.#maxRuns = maxRuns;
  }

  /** Gaps (or runs) up to this length were given up because the list was full; 0: it is exact. */
  get grainBytes(): number {
    return this.#grainBytes;
  }

  /** Adds the bytes from `start` up to, not including, `end`; nothing when it is empty. */
  add(start: number, end: number): void {
    if (!(start < end)) return;
    const last = this.#length - 1;
    const lastStart = last < 0 ? -1 : (this.#starts[last] ?? 0);
    const lastEnd = last < 0 ? -1 : (this.#ends[last] ?? 0);
    if (last >= 0 && start >= lastStart && start <= lastEnd) {
      if (end > lastEnd) this.#ends[last] = end;
      return;
    }
    if (last >= 0 && start < lastStart) this.#isSettled = false;
    if (this.#length === this.#maxRuns) this.#coarsen();
    this.#reserve();
    this.#starts[this.#length] = start;
    this.#ends[this.#length] = end;
    this.#length += 1;
    // After a coarsening the new run may lie before or inside the last one.
    if (this.#length > 1 && start <= (this.#ends[this.#length - 2] ?? 0)) this.#isSettled = false;
  }

  /** Adds every run of another list, moved by `offsetBytes`. */
  addAll(other: RunList, offsetBytes = 0): void {
    for (const { offsetBytes: at, lengthBytes } of other.extents()) {
      this.add(at + offsetBytes, at + offsetBytes + lengthBytes);
    }
  }

  /** Yields the runs in ascending order, merged. */
  *extents(): Generator<Extent, void, undefined> {
    this.#settle();
    for (let i = 0; i < this.#length; i++) {
      const offsetBytes = this.#starts[i] ?? 0;
      yield { offsetBytes, lengthBytes: (this.#ends[i] ?? 0) - offsetBytes };
    }
  }

  /** How many bytes the runs hold together. */
  get totalBytes(): number {
    let total = 0;
    for (const { lengthBytes } of this.extents()) total += lengthBytes;
    return total;
  }

  /** @returns a new list: what of this one is not in `other` */
  without(other: RunList): RunList {
    const rest = new RunList(this.#whenFull, this.#maxRuns);
    rest.#grainBytes = this.#grainBytes;
    const holes = other.extents();
    let hole = holes.next();
    for (const { offsetBytes, lengthBytes } of this.extents()) {
      const end = offsetBytes + lengthBytes;
      let at = offsetBytes;
      while (hole.done !== true && hole.value.offsetBytes < end) {
        const holeEnd = hole.value.offsetBytes + hole.value.lengthBytes;
        rest.add(at, hole.value.offsetBytes);
        at = Math.max(at, holeEnd);
        if (holeEnd > end) break;
        hole = holes.next();
      }
      rest.add(at, end);
    }
    return rest;
  }

  #reserve(): void {
    if (this.#length < this.#starts.length) return;
    const size = Math.min(this.#starts.length * 2, this.#maxRuns);
    const starts = new Float64Array(size);
    const ends = new Float64Array(size);
    starts.set(this.#starts);
    ends.set(this.#ends);
    this.#starts = starts;
    this.#ends = ends;
  }

  #settle(): void {
    if (this.#isSettled) return;
    const order = new Uint32Array(this.#length).map((_, i) => i);
    const starts = this.#starts;
    const ends = this.#ends;
    order.sort((a, b) => (starts[a] ?? 0) - (starts[b] ?? 0));
    this.#starts = Float64Array.from(order, (i) => starts[i] ?? 0);
    this.#ends = Float64Array.from(order, (i) => ends[i] ?? 0);
    this.#mergeSorted(0);
    this.#isSettled = true;
  }

  /** Joins neighbours at most `gapBytes` apart; the runs are sorted already. */
  #mergeSorted(gapBytes: number): void {
    let kept = 0;
    for (let i = 1; i < this.#length; i++) {
      const start = this.#starts[i] ?? 0;
      const end = this.#ends[i] ?? 0;
      if (start <= (this.#ends[kept] ?? 0) + gapBytes) {
        this.#ends[kept] = Math.max(this.#ends[kept] ?? 0, end);
      } else {
        kept += 1;
        this.#starts[kept] = start;
        this.#ends[kept] = end;
      }
    }
    this.#length = Math.min(this.#length, kept + 1);
  }

  #forgetShorterThan(lengthBytes: number): void {
    let kept = 0;
    for (let i = 0; i < this.#length; i++) {
      const start = this.#starts[i] ?? 0;
      const end = this.#ends[i] ?? 0;
      if (end - start <= lengthBytes) continue;
      this.#starts[kept] = start;
      this.#ends[kept] = end;
      kept += 1;
    }
    this.#length = kept;
  }

  /** Makes room for at least half of the list. */
  #coarsen(): void {
    this.#settle();
    while (this.#length > this.#maxRuns / 2) {
      this.#grainBytes = Math.max(4096, this.#grainBytes * 2);
      if (this.#whenFull === 'join-gaps') this.#mergeSorted(this.#grainBytes);
      else this.#forgetShorterThan(this.#grainBytes);
    }
  }
}
