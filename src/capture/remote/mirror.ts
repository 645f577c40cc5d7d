import { hash } from 'node:crypto';
import { promisify } from 'node:util';
import { zstdCompress } from 'node:zlib';
import { type Extent, releaseMemory, totalBytes, type WireCodec } from '../../bytes/index.ts';
import {
  type DeviceSession,
  type FetchedRanges,
  MAX_SUM_GROUPS,
  type SumTool,
} from './device-session.ts';
import { KeptBytes } from './kept-bytes.ts';
import { ALIGNMENT, endOf, planBatches, type RangeBatch } from './plan-batches.ts';
import { unpackFrame } from './wire-payload.ts';

/** Batches that are asked for before the first of them is here. */
const FETCHES_AHEAD = 3;
/** Commands of digests that wait on the device: it begins the next at once. */
const SUMS_AHEAD = 3;
/** The device's shell reads its lines byte by byte, up to 4000 of them; a range is about 22. */
const MAX_SUM_RANGES = 128;
/** Batches that stay unpacked while they are read: several reads run at once. */
const MAX_UNPACKED = 4;

const pack = promisify(zstdCompress);

/** Where a mirror keeps what came over: added at the end, read anywhere. */
export interface MirrorSpool extends AsyncDisposable {
  /** @throws IngotError `target-full` */
  append(bytes: Uint8Array): Promise<void>;
  /** @returns exactly these bytes */
  read(offsetBytes: number, lengthBytes: number): Promise<Buffer>;
}

/** A batch that is here, as a zstd frame in the spool. */
interface Mirrored extends RangeBatch {
  readonly lengthBytes: number;
  readonly digest: string;
  readonly frameOffsetBytes: number;
  readonly frameBytes: number;
}

/** A range of a batch, and where its bytes begin among those of the batch. */
interface MirroredRange extends Extent {
  readonly batch: Mirrored;
  readonly startBytes: number;
}

/** What a mirror works with. */
export interface MirrorSetup {
  readonly session: DeviceSession;
  readonly sizeBytes: number;
  readonly codec: WireCodec;
  readonly tool: SumTool;
  readonly spool: MirrorSpool;
  /** Called after each answer, with the plain bytes that it was about. */
  readonly onAnswer: (lengthBytes: number) => void;
}

/**
 * A copy of what is allocated on a remote device, which is brought up to date by digests.
 *
 * What it holds is that of one instant only once `refresh` and `complete` have run while nothing
 * changed on the device.
 *
 * @see docs/capture.md "Pre-copy over ssh"
 */
export class Mirror {
  readonly #setup: MirrorSetup;
  /** In disk order. */
  #ranges: readonly MirroredRange[] = [];
  #batches: readonly Mirrored[] = [];
  #spooledBytes = 0;
  readonly #unpacked = new Map<Mirrored, KeptBytes>();

  constructor(setup: MirrorSetup) {
    this.#setup = setup;
  }

  /** Plain bytes that are here. */
  get lengthBytes(): number {
    return this.#batches.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
  }

  /** Fetches those of the extents that are not here yet. @param extents ascending */
  async complete(extents: readonly Extent[]): Promise<void> {
    const { sizeBytes } = this.#setup;
    const fetched: Mirrored[] = [];
    // Where something is here already, what lies between two ranges may be here: none is joined.
    const plan = this.#batches.length === 0 ? { sizeBytes } : { sizeBytes, joinGapBytes: 0 };
    const missing = planBatches([...this.#without(extents)], plan);
    await this.#fetch(missing, (batch) => fetched.push(batch));
    if (fetched.length > 0) this.#hold([...this.#batches, ...fetched]);
    const [missed] = this.#without(extents);
    if (missed !== undefined) throw new Error(`a mirror misses byte ${missed.offsetBytes}`);
  }

  /**
   * Asks the device for the digests of all that is here, and fetches what differs.
   *
   * @returns the plain bytes that were fetched
   */
  async refresh(): Promise<number> {
    const changed: Mirrored[] = [];
    const waiting: Promise<void>[] = [];
    for (const group of sumGroups(this.#batches)) {
      waiting.push(quietly(this.#compare(group, changed)));
      if (waiting.length >= SUMS_AHEAD) await waiting.shift();
    }
    for (const answer of waiting) await answer;
    const fresh = new Map<RangeBatch, Mirrored>();
    await this.#fetch(changed, (batch, old) => fresh.set(old, batch));
    this.#hold(this.#batches.map((batch) => fresh.get(batch) ?? batch));
    return changed.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
  }

  /**
   * Fills memory of the caller; what is not here becomes zeros.
   *
   * @returns whether all of it is here
   */
  async readInto(offsetBytes: number, target: Buffer): Promise<boolean> {
    const end = offsetBytes + target.length;
    const copies: Promise<number>[] = [];
    let isWhole = true;
    let index = this.#indexAt(offsetBytes);
    for (let at = offsetBytes; at < end; ) {
      const range = this.#ranges[index];
      const start = Math.min(range?.offsetBytes ?? end, end);
      if (range === undefined || start > at) {
        target.fill(0, at - offsetBytes, start - offsetBytes);
        isWhole = false;
        at = start;
        continue;
      }
      const to = Math.min(endOf(range), end);
      const from = at;
      const skip = range.startBytes + from - range.offsetBytes;
      const copy = (plain: Buffer): number =>
        plain.copy(target, from - offsetBytes, skip, skip + to - from);
      copies.push(quietly(this.#unpackedOf(range.batch).use(copy)));
      at = to;
      index += 1;
    }
    // All of them are waited for: what still copies would write into memory of somebody else.
    for (const end of await Promise.allSettled(copies)) {
      if (end.status === 'rejected') throw end.reason;
    }
    return isWhole;
  }

  async #compare(group: readonly Mirrored[], changed: Mirrored[]): Promise<void> {
    const { session, tool, onAnswer } = this.#setup;
    const digests = await session.sumsOf(
      group.map(({ ranges }) => ranges),
      tool,
    );
    for (const [i, batch] of group.entries()) {
      if (digests[i] !== batch.digest) changed.push(batch);
      onAnswer(batch.lengthBytes);
    }
  }

  /** Fetches batches, a few ahead, and keeps them in the spool. */
  async #fetch(
    batches: readonly RangeBatch[],
    keep: (batch: Mirrored, asked: RangeBatch) => void,
  ): Promise<void> {
    const { session, codec, onAnswer } = this.#setup;
    const coming: Promise<FetchedRanges>[] = [];
    let next = 0;
    for (const batch of batches) {
      while (next < batches.length && coming.length < FETCHES_AHEAD) {
        const asked = batches[next++];
        if (asked !== undefined) coming.push(quietly(session.fetchRanges(asked.ranges, codec)));
      }
      const fetched = await coming.shift();
      if (fetched === undefined) throw new Error('nothing was asked for');
      keep(await this.#store(batch, fetched), batch);
      onAnswer(totalBytes(batch.ranges));
    }
  }

  async #store(batch: RangeBatch, fetched: FetchedRanges): Promise<Mirrored> {
    const { tool, spool } = this.#setup;
    const { plain } = fetched;
    const digest = hash(tool === 'b2sum' ? 'blake2b512' : 'sha256', plain, 'hex');
    const frame = fetched.frame ?? (await pack(plain));
    const frameOffsetBytes = this.#spooledBytes;
    await spool.append(frame);
    this.#spooledBytes += frame.length;
    fetched.release();
    return {
      ranges: batch.ranges,
      offsetBytes: batch.offsetBytes,
      endBytes: batch.endBytes,
      lengthBytes: totalBytes(batch.ranges),
      digest,
      frameOffsetBytes,
      frameBytes: frame.length,
    };
  }

  #hold(batches: readonly Mirrored[]): void {
    this.#batches = batches.toSorted((a, b) => a.offsetBytes - b.offsetBytes);
    for (const old of this.#unpacked.values()) old.drop();
    this.#unpacked.clear();
    const ranges: MirroredRange[] = [];
    for (const batch of this.#batches) {
      let startBytes = 0;
      for (const range of batch.ranges) {
        ranges.push({ ...range, batch, startBytes });
        startBytes += range.lengthBytes;
      }
    }
    // Batches that came later may lie between the ranges of earlier ones.
    this.#ranges = ranges.sort((a, b) => a.offsetBytes - b.offsetBytes);
  }

  /** The parts of extents that are not here, as whole blocks. */
  *#without(extents: readonly Extent[]): Generator<Extent, void, undefined> {
    for (const extent of extents) {
      const end = endOf(extent);
      let at = extent.offsetBytes - (extent.offsetBytes % ALIGNMENT);
      for (let index = Math.max(0, this.#indexAt(at)); at < end; index++) {
        const range = this.#ranges[index];
        const start = Math.min(range?.offsetBytes ?? end, end);
        if (start > at) yield { offsetBytes: at, lengthBytes: start - at };
        if (range === undefined) break;
        at = Math.max(at, endOf(range));
      }
    }
  }

  /** The index of the range that holds a byte, or of the next one behind it. */
  #indexAt(offsetBytes: number): number {
    let low = 0;
    let high = this.#ranges.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const range = this.#ranges[middle];
      if (range !== undefined && endOf(range) <= offsetBytes) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #unpackedOf(batch: Mirrored): KeptBytes {
    const known = this.#unpacked.get(batch);
    this.#unpacked.delete(batch);
    const bytes = known ?? new KeptBytes(this.#unpack(batch));
    this.#unpacked.set(batch, bytes);
    for (const [oldest, old] of this.#unpacked) {
      if (this.#unpacked.size <= MAX_UNPACKED) break;
      this.#unpacked.delete(oldest);
      old.drop();
    }
    return bytes;
  }

  async #unpack({ frameOffsetBytes, frameBytes, lengthBytes }: Mirrored): Promise<{
    readonly plain: Buffer;
    release(): void;
  }> {
    const frame = await this.#setup.spool.read(frameOffsetBytes, frameBytes);
    const plain = await unpackFrame(frame, lengthBytes);
    releaseMemory(frame);
    return { plain, release: () => releaseMemory(plain) };
  }
}

/** Groups batches for one command each. */
function* sumGroups(batches: readonly Mirrored[]): Generator<Mirrored[], void, undefined> {
  let group: Mirrored[] = [];
  let ranges = 0;
  for (const batch of batches) {
    const isFull = group.length === MAX_SUM_GROUPS || ranges + batch.ranges.length > MAX_SUM_RANGES;
    if (group.length > 0 && isFull) {
      yield group;
      group = [];
      ranges = 0;
    }
    group.push(batch);
    ranges += batch.ranges.length;
  }
  if (group.length > 0) yield group;
}

/** Whoever fails first tells why; nobody may hear of the others. */
function quietly<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined);
  return promise;
}
