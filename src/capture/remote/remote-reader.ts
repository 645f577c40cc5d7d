import { IngotError } from '../../base/index.ts';
import { type Extent, totalBytes, type WireCodec } from '../../bytes/index.ts';
import type { DiskReader, LentBytes } from '../disk-reader.ts';
import type { DeviceSession } from './device-session.ts';
import { KeptBytes } from './kept-bytes.ts';
import { ALIGNMENT, endOf, planBatches, type RangeBatch } from './plan-batches.ts';
import { unpackPayload, type WirePayload } from './wire-payload.ts';

/** Asked for ahead of the reader: what is on its way while the link's round trip lasts. */
const BATCHES_AHEAD = 3;
/** Who reads into own memory does so at several places at once: batches behind are kept a little. */
const BATCHES_BEHIND = 1;
/** Metadata is read in small pieces that lie together: one request brings their neighbours. */
const WINDOW_BYTES = 128 * 1024;
const MAX_WINDOWS = 192;
/** Windows that are read at once where the one before was wanted too: trees lie in long runs. */
const MAX_RUN = 8;

/** A batch, once it was asked for. */
interface Batch extends RangeBatch {
  coming: Promise<WirePayload> | undefined;
  /** Unpacked when it is read first. */
  bytes: KeptBytes | undefined;
}

/**
 * A block device on the other side of a session.
 *
 * What a pass will read is told beforehand with `plan`: it is then asked for in disk order, a few
 * MiB ahead, so that neither the link's round trip nor the start of each dd is waited for.
 */
export class RemoteReader implements DiskReader {
  readonly sizeBytes: number;
  readonly sectorBytes: number | undefined;
  readonly #session: DeviceSession;
  readonly #codec: WireCodec;
  readonly #isDirect: boolean;
  readonly #windows = new Map<number, Promise<Buffer>>();
  #batches: readonly Batch[] = [];

  constructor(
    session: DeviceSession,
    setup: {
      readonly sizeBytes: number;
      readonly codec: WireCodec;
      readonly isDirect: boolean;
      readonly sectorBytes?: number | undefined;
    },
  ) {
    this.#session = session;
    this.sizeBytes = setup.sizeBytes;
    this.sectorBytes = setup.sectorBytes;
    this.#codec = setup.codec;
    this.#isDirect = setup.isDirect;
  }

  /** Tells what will be read, in ascending order; ends an earlier plan. */
  plan(extents: readonly Extent[]): void {
    for (const { bytes } of this.#batches) bytes?.drop();
    // What led to the plan is read, and its memory is of better use now.
    this.#windows.clear();
    this.#batches = planBatches(extents, { sizeBytes: this.sizeBytes }).map((batch) => ({
      ...batch,
      coming: undefined,
      bytes: undefined,
    }));
  }

  async read(offsetBytes: number, lengthBytes: number): Promise<Buffer> {
    this.#mustBeInside(offsetBytes, lengthBytes);
    const bytes = Buffer.allocUnsafe(lengthBytes);
    await this.readInto(offsetBytes, bytes);
    return bytes;
  }

  async readInto(offsetBytes: number, target: Buffer): Promise<void> {
    const lengthBytes = target.length;
    this.#mustBeInside(offsetBytes, lengthBytes);
    if (lengthBytes === 0 || (await this.#readPlanned(offsetBytes, target))) return;
    const end = offsetBytes + lengthBytes;
    const isSmall = lengthBytes <= WINDOW_BYTES / 2;
    const bytes = await (isSmall
      ? this.#readSmall(offsetBytes, end)
      : this.#readRange(offsetBytes, end));
    bytes.copy(target);
  }

  /** A read that lies in one range that was planned needs no copy. */
  async lend(offsetBytes: number, lengthBytes: number): Promise<LentBytes | undefined> {
    this.#mustBeInside(offsetBytes, lengthBytes);
    const index = this.#batchAt(offsetBytes);
    const start = placeOf(this.#batches[index]?.ranges ?? [], { offsetBytes, lengthBytes });
    if (start !== undefined) {
      this.#forgetBefore(index);
      const bytes = this.#ask(index, index);
      if (bytes !== undefined) {
        const { plain, release } = await bytes.lend();
        return { bytes: plain.subarray(start, start + lengthBytes), release };
      }
    }
    return undefined;
  }

  async dropStale(): Promise<void> {
    this.plan([]);
    if (!this.#isDirect) await this.#session.flush();
  }

  /** The session has its own owner. */
  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve();
  }

  #mustBeInside(offsetBytes: number, lengthBytes: number): void {
    const end = offsetBytes + lengthBytes;
    if (offsetBytes >= 0 && lengthBytes >= 0 && end <= this.sizeBytes) return;
    throw new IngotError(
      'source-truncated',
      `bytes ${offsetBytes} to ${end} are outside a source of ${this.sizeBytes} bytes`,
    );
  }

  /** Reads out of the planned batches, and asks for the next ones. @returns false where none has it */
  async #readPlanned(offsetBytes: number, target: Buffer): Promise<boolean> {
    const end = offsetBytes + target.length;
    const first = this.#batchAt(offsetBytes);
    if (first < 0) return false;
    let last = first;
    while ((this.#batches[last]?.endBytes ?? end) < end) last += 1;
    if (last >= this.#batches.length) return false;
    this.#forgetBefore(first - BATCHES_BEHIND);
    const copies: Promise<number>[] = [];
    for (let index = first; index <= last; index += 1) {
      const ranges = this.#batches[index]?.ranges ?? [];
      const bytes = this.#ask(index, last);
      if (bytes === undefined) break;
      copies.push(bytes.use((plain) => copyRanges(plain, ranges, target, offsetBytes)));
    }
    let copiedBytes = 0;
    for (const count of await Promise.all(copies)) copiedBytes += count;
    return copiedBytes === target.length;
  }

  /** Asks for a batch, and for those behind `last` that will be wanted next. */
  #ask(index: number, last: number): KeptBytes | undefined {
    for (const batch of this.#batches.slice(index, last + BATCHES_AHEAD + 1)) {
      batch.coming ??= quietly(this.#session.fetchRanges(batch.ranges, this.#codec));
    }
    const wanted = this.#batches[index];
    if (wanted?.coming === undefined) return undefined;
    wanted.bytes ??= new KeptBytes(unpacked(wanted.coming, totalBytes(wanted.ranges)));
    return wanted.bytes;
  }

  /** @returns the index of the batch that holds this byte, or -1 */
  #batchAt(offsetBytes: number): number {
    let low = 0;
    let high = this.#batches.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const batch = this.#batches[middle];
      if (batch === undefined) return -1;
      if (offsetBytes < batch.offsetBytes) high = middle - 1;
      else if (offsetBytes >= batch.endBytes) low = middle + 1;
      else return middle;
    }
    return -1;
  }

  #forgetBefore(index: number): void {
    for (let at = index - 1; at >= 0; at -= 1) {
      const batch = this.#batches[at];
      if (batch?.coming === undefined) return;
      batch.bytes?.drop();
      batch.bytes = undefined;
      batch.coming = undefined;
    }
  }

  async #readSmall(offsetBytes: number, end: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    for (let at = offsetBytes; at < end; ) {
      const start = at - (at % WINDOW_BYTES);
      const window = await this.#window(start);
      const to = Math.min(end, start + WINDOW_BYTES);
      parts.push(window.subarray(at - start, to - start));
      at = to;
    }
    return Buffer.concat(parts);
  }

  #window(start: number): Promise<Buffer> {
    const known = this.#windows.get(start);
    if (known !== undefined) return known;
    const isRun = this.#windows.has(start - WINDOW_BYTES);
    let end = start + WINDOW_BYTES;
    const limit = isRun ? Math.min(start + MAX_RUN * WINDOW_BYTES, this.sizeBytes) : end;
    while (end < limit && !this.#windows.has(end)) end += WINDOW_BYTES;
    const run = this.#readRange(start, Math.min(end, this.sizeBytes));
    for (let at = start; at < end; at += WINDOW_BYTES) {
      this.#keepWindow(at, cut(run, at - start));
    }
    return this.#windows.get(start) ?? run;
  }

  #keepWindow(start: number, window: Promise<Buffer>): void {
    const [oldest] = this.#windows.keys();
    if (oldest !== undefined && this.#windows.size >= MAX_WINDOWS) this.#windows.delete(oldest);
    this.#windows.set(start, quietly(window));
  }

  async #readRange(offsetBytes: number, end: number): Promise<Buffer> {
    const from = offsetBytes - (offsetBytes % ALIGNMENT);
    const to = Math.min(this.sizeBytes, Math.ceil(end / ALIGNMENT) * ALIGNMENT);
    const range = { offsetBytes: from, lengthBytes: to - from };
    const bytes = await this.#session.readRanges([range], this.#codec);
    return bytes.subarray(offsetBytes - from, end - from);
  }
}

/** Takes a window out of a run of them. */
async function cut(run: Promise<Buffer>, startBytes: number): Promise<Buffer> {
  return (await run).subarray(startBytes, startBytes + WINDOW_BYTES);
}

/** A batch that nobody reads any more may fail without anybody to hear of it. */
function quietly<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined);
  return promise;
}

async function unpacked(coming: Promise<WirePayload>, lengthBytes: number): Promise<Buffer> {
  return await unpackPayload(await coming, lengthBytes);
}

/** @returns where the bytes of `wanted` begin among those of joined ranges, if one has them all */
function placeOf(ranges: readonly Extent[], wanted: Extent): number | undefined {
  let at = 0;
  for (const range of ranges) {
    const skip = wanted.offsetBytes - range.offsetBytes;
    if (skip >= 0 && endOf(wanted) <= endOf(range)) return at + skip;
    at += range.lengthBytes;
  }
  return undefined;
}

/** Copies the parts of joined ranges that lie inside `room`. @returns how many bytes */
function copyRanges(
  bytes: Buffer,
  ranges: readonly Extent[],
  room: Buffer,
  roomOffset: number,
): number {
  let copiedBytes = 0;
  let at = 0;
  for (const range of ranges) {
    const from = Math.max(range.offsetBytes, roomOffset);
    const to = Math.min(endOf(range), roomOffset + room.length);
    if (to > from) {
      const start = at + from - range.offsetBytes;
      copiedBytes += bytes.copy(room, from - roomOffset, start, start + to - from);
    }
    at += range.lengthBytes;
  }
  return copiedBytes;
}
