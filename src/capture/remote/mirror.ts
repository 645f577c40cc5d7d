import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { zstdCompress } from 'node:zlib';
import { isFailure, MIB } from '../../base/index.ts';
import {
  type Extent,
  mergeExtents,
  releaseMemory,
  totalBytes,
  type WireCodec,
} from '../../bytes/index.ts';
import type { LentBytes } from '../disk-reader.ts';
import { type DeviceSession, MAX_SUM_GROUPS, type SumTool } from './device-session.ts';
import { KeptBytes } from './kept-bytes.ts';
import {
  ALIGNMENT,
  alignedExtents,
  type BatchPlan,
  endOf,
  firstBehind,
  planBatches,
  type RangeBatch,
  subtract,
} from './plan-batches.ts';
import { type MirrorSpool, type SpooledFrame, SpoolRecords } from './spool-records.ts';
import { unpackFrame, type WirePayload } from './wire-payload.ts';

/** Asked for before the first of it is here, two batches in any case: the device never waits. */
const AHEAD_BYTES = 8 * MIB;
/** Commands of digests that wait on the device: it begins the next at once. */
const SUMS_AHEAD = 3;
/** The device's shell reads its lines byte by byte, up to 4000 of them; a range is about 22. */
const MAX_SUM_RANGES = 128;
/** What stays unpacked while it is read, two batches in any case: several reads run at once. */
const MAX_UNPACKED_BYTES = 18 * MIB;

const pack = promisify(zstdCompress);

/** A batch that is here, as a zstd frame in the spool. */
interface Mirrored extends SpooledFrame {
  readonly lengthBytes: number;
  /** Of what still holds; undefined until somebody asks for it. */
  digest: string | undefined;
  /** What of it still holds. */
  parts: readonly MirroredRange[];
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
  /**
   * Tells what was written on the device since the last call, or since the first fetch; undefined
   * when nobody knows. Left out where nobody ever will: digests are then made as batches come in.
   */
  readonly changes?: (() => Promise<readonly Extent[] | undefined>) | undefined;
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
  readonly #records: SpoolRecords;
  readonly #unpacked = new Map<Mirrored, KeptBytes>();

  constructor(setup: MirrorSetup) {
    this.#setup = setup;
    this.#records = new SpoolRecords(setup.spool);
  }

  /**
   * Takes over what an earlier mirror left in the spool, as far as it is still so. Call it first.
   *
   * @returns the plain bytes that need not be fetched
   */
  async recall(): Promise<number> {
    const batches: Mirrored[] = [];
    const newer: Extent[] = [];
    for (const frame of (await this.#records.open(this.#setup.sizeBytes)).toReversed()) {
      const batch = mirrored(frame);
      batch.parts = batch.parts.flatMap((part) => cutPart(part, subtract(part, newer)));
      if (batch.parts.length > 0) batches.push(batch);
      for (const part of batch.parts) newer.splice(firstBehind(newer, part.offsetBytes), 0, part);
    }
    this.#hold(batches);
    // Nobody logged what was written since then. What differs comes with the rest.
    if (this.#batches.length > 0) await this.#findChanged();
    return this.lengthBytes;
  }

  /** Plain bytes that are here. */
  get lengthBytes(): number {
    return totalBytes(this.#ranges);
  }

  /**
   * Fetches those of the extents that are not here yet.
   *
   * @param extents ascending
   * @param batchBytes how much one answer brings, where that is of interest
   */
  async complete(extents: readonly Extent[], batchBytes?: number): Promise<void> {
    const { sizeBytes } = this.#setup;
    // Where something is here already, what lies between two ranges may be here: none is joined.
    const plan: BatchPlan = {
      sizeBytes,
      ...(this.#batches.length === 0 ? {} : { joinGapBytes: 0 }),
      ...(batchBytes === undefined ? {} : { batchBytes }),
    };
    await this.#add(planBatches(this.#without(extents), plan));
    const [missed] = this.#without(extents);
    if (missed !== undefined) throw new Error(`a mirror misses byte ${missed.offsetBytes}`);
  }

  /**
   * Fetches again what changed on the device: what it says that was written, or else, whatever has
   * another digest there.
   *
   * @returns the plain bytes that were fetched
   */
  async refresh(): Promise<number> {
    const { sizeBytes, changes } = this.#setup;
    const written = await changes?.();
    const changed = written === undefined ? await this.#findChanged() : this.#forget(written);
    const stale = planBatches(changed, { sizeBytes, joinGapBytes: 0 });
    await this.#add(stale);
    return stale.reduce((sum, { ranges }) => sum + totalBytes(ranges), 0);
  }

  /** Lends bytes that lie in one range. */
  async lend(offsetBytes: number, lengthBytes: number): Promise<LentBytes | undefined> {
    const index = firstBehind(this.#ranges, offsetBytes);
    const range = this.#ranges[index];
    const end = offsetBytes + lengthBytes;
    if (range === undefined || range.offsetBytes > offsetBytes || endOf(range) < end) {
      return undefined;
    }
    const start = range.startBytes + offsetBytes - range.offsetBytes;
    const bytes = this.#unpackedOf(range.batch);
    // Whoever borrows goes on in disk order: the next batch is unpacked meanwhile.
    let next = index + 1;
    while (this.#ranges[next]?.batch === range.batch) next += 1;
    const { batch } = this.#ranges[next] ?? range;
    if (batch !== range.batch) this.#unpackedOf(batch);
    const { plain, release } = await bytes.lend();
    return { bytes: plain.subarray(start, start + lengthBytes), release };
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
    let index = firstBehind(this.#ranges, offsetBytes);
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

  /** Drops the batches whose digest is another one on the device. @returns what they held */
  async #findChanged(): Promise<readonly Extent[]> {
    const changed = new Set<Mirrored>();
    const waiting: Promise<void>[] = [];
    for (const group of sumGroups(this.#batches)) {
      waiting.push(quietly(this.#compare(group, changed)));
      if (waiting.length >= SUMS_AHEAD) await waiting.shift();
    }
    for (const answer of waiting) await answer;
    this.#hold(this.#batches.filter((batch) => !changed.has(batch)));
    return mergeExtents([...changed].flatMap(({ parts }) => parts));
  }

  async #compare(group: readonly Mirrored[], changed: Set<Mirrored>): Promise<void> {
    const { session, tool, onAnswer } = this.#setup;
    const there = quietly(
      session.sumsOf(
        group.map(({ parts }) => parts),
        tool,
      ),
    );
    // The device hashes at the same time.
    for (const batch of group) batch.digest ??= await this.#digestOf(batch);
    const digests = await there;
    for (const [i, batch] of group.entries()) {
      if (digests[i] !== batch.digest) changed.add(batch);
      onAnswer(batch.lengthBytes);
    }
  }

  /** A frame that an earlier run left damaged has no digest that the device could have. */
  async #digestOf(batch: Mirrored): Promise<string> {
    try {
      const plain = await this.#unpack(batch);
      const digest = this.#hash(plain, batch.parts);
      releaseMemory(plain);
      return digest;
    } catch (thrown) {
      if (isFailure(thrown, 'frame-malformed')) return '';
      throw thrown;
    }
  }

  #hash(plain: Buffer, parts: readonly MirroredRange[]): string {
    const hash = createHash(this.#setup.tool === 'b2sum' ? 'blake2b512' : 'sha256');
    for (const { startBytes, lengthBytes } of parts) {
      hash.update(plain.subarray(startBytes, startBytes + lengthBytes));
    }
    return hash.digest('hex');
  }

  /** Drops what lies in any of the extents. @returns what was here of it, ascending */
  #forget(extents: readonly Extent[]): readonly Extent[] {
    const { sizeBytes } = this.#setup;
    const aligned = alignedExtents(extents, sizeBytes);
    const dropped: Extent[] = [];
    for (const batch of this.#batches) {
      batch.parts = batch.parts.flatMap((part) => {
        const left = subtract(part, aligned);
        if (left.length === 1 && left[0]?.lengthBytes === part.lengthBytes) return [part];
        dropped.push(...subtract(part, left));
        batch.digest = undefined;
        return cutPart(part, left);
      });
    }
    if (dropped.length > 0) this.#hold(this.#batches.filter(({ parts }) => parts.length > 0));
    return mergeExtents(dropped);
  }

  /** Fetches batches, a few ahead, and keeps them in the spool. */
  async #add(batches: readonly RangeBatch[]): Promise<void> {
    if (batches.length === 0) return;
    const { session, codec, onAnswer } = this.#setup;
    const coming: Promise<WirePayload>[] = [];
    const fetched: Mirrored[] = [];
    let next = 0;
    let comingBytes = 0;
    for (const { ranges } of batches) {
      while (next < batches.length && (coming.length < 2 || comingBytes < AHEAD_BYTES)) {
        const asked = batches[next++]?.ranges ?? [];
        coming.push(quietly(session.fetchRanges(asked, codec)));
        comingBytes += totalBytes(asked);
      }
      const payload = await coming.shift();
      if (payload === undefined) throw new Error('nothing was asked for');
      comingBytes -= totalBytes(ranges);
      fetched.push(await this.#store(ranges, payload));
      onAnswer(totalBytes(ranges));
    }
    this.#hold([...this.#batches, ...fetched]);
  }

  async #store(ranges: readonly Extent[], payload: WirePayload): Promise<Mirrored> {
    const { changes } = this.#setup;
    const lengthBytes = totalBytes(ranges);
    const frame = payload.kind === 'zstd' ? payload.frame : await pack(payload.plain);
    const batch = mirrored(await this.#records.add(ranges, frame));
    // Where digests are all there is, they are made while the next batch comes.
    if (payload.kind === 'plain' || changes === undefined) {
      const plain =
        payload.kind === 'plain' ? payload.plain : await unpackFrame(frame, lengthBytes);
      batch.digest = this.#hash(plain, batch.parts);
      releaseMemory(plain);
    }
    releaseMemory(frame);
    return batch;
  }

  #hold(batches: readonly Mirrored[]): void {
    this.#batches = batches;
    for (const old of this.#unpacked.values()) old.drop();
    this.#unpacked.clear();
    // Batches that came later may lie between the ranges of earlier ones.
    this.#ranges = batches
      .flatMap(({ parts }) => parts)
      .sort((a, b) => a.offsetBytes - b.offsetBytes);
  }

  /** The parts of extents that are not here, as whole blocks. */
  #without(extents: readonly Extent[]): Extent[] {
    return extents.flatMap(({ offsetBytes, lengthBytes }) => {
      const start = offsetBytes - (offsetBytes % ALIGNMENT);
      const end = offsetBytes + lengthBytes;
      return subtract({ offsetBytes: start, lengthBytes: end - start }, this.#ranges);
    });
  }

  #unpackedOf(batch: Mirrored): KeptBytes {
    const known = this.#unpacked.get(batch);
    this.#unpacked.delete(batch);
    const bytes = known ?? new KeptBytes(this.#unpack(batch));
    this.#unpacked.set(batch, bytes);
    let keptBytes = 0;
    for (const { lengthBytes } of this.#unpacked.keys()) keptBytes += lengthBytes;
    for (const [oldest, old] of this.#unpacked) {
      if (this.#unpacked.size <= 2 || keptBytes <= MAX_UNPACKED_BYTES) break;
      this.#unpacked.delete(oldest);
      keptBytes -= oldest.lengthBytes;
      old.drop();
    }
    return bytes;
  }

  async #unpack(batch: Mirrored): Promise<Buffer> {
    const frame = await this.#records.read(batch);
    const plain = await unpackFrame(frame, batch.lengthBytes);
    releaseMemory(frame);
    return plain;
  }
}

function mirrored(frame: SpooledFrame): Mirrored {
  const lengthBytes = totalBytes(frame.ranges);
  const batch: Mirrored = { ...frame, lengthBytes, digest: undefined, parts: [] };
  batch.parts = partsOf(batch);
  return batch;
}

function partsOf(batch: Mirrored): MirroredRange[] {
  let startBytes = 0;
  return batch.ranges.map((range) => {
    const part = { ...range, batch, startBytes };
    startBytes += range.lengthBytes;
    return part;
  });
}

/** @param left what remains of a part */
function cutPart(part: MirroredRange, left: readonly Extent[]): MirroredRange[] {
  return left.map(({ offsetBytes, lengthBytes }) => ({
    batch: part.batch,
    offsetBytes,
    lengthBytes,
    startBytes: part.startBytes + offsetBytes - part.offsetBytes,
  }));
}

/** Groups batches for one command each. */
function* sumGroups(batches: readonly Mirrored[]): Generator<Mirrored[], void, undefined> {
  let group: Mirrored[] = [];
  let ranges = 0;
  for (const batch of batches) {
    const isFull = group.length === MAX_SUM_GROUPS || ranges + batch.parts.length > MAX_SUM_RANGES;
    if (group.length > 0 && isFull) {
      yield group;
      group = [];
      ranges = 0;
    }
    group.push(batch);
    ranges += batch.parts.length;
  }
  if (group.length > 0) yield group;
}

/** Whoever fails first tells why; nobody may hear of the others. */
function quietly<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined);
  return promise;
}
