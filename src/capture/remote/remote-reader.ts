import { IngotError } from '../../base/index.ts';
import { type Extent, mergeExtents, type WireCodec } from '../../bytes/index.ts';
import type { DiskReader } from '../disk-reader.ts';
import type { DeviceSession } from './device-session.ts';

/** dd reads past the cache in blocks of this size; every filesystem's blocks are multiples. */
const ALIGNMENT = 4096;
/** Starting dd on the device costs about as much as reading this many bytes. */
const JOIN_GAP_BYTES = 64 * 1024;
const BATCH_BYTES = 2 * 1024 * 1024;
/** The device's shell reads its command byte by byte: 64 ranges are about 1.5 KiB. */
const BATCH_RANGES = 64;
/** Asked for ahead of the reader: what is on its way while the link's round trip lasts. */
const BATCHES_AHEAD = 6;
/** Readers run a few requests in parallel, so batches behind the last one are kept a little. */
const BATCHES_BEHIND = 4;
/** Metadata is read in small pieces that lie together: one request brings their neighbours. */
const WINDOW_BYTES = 128 * 1024;
const MAX_WINDOWS = 128;

/** Ranges that are asked for in one command. */
interface Batch {
  readonly ranges: readonly Extent[];
  readonly offsetBytes: number;
  readonly endBytes: number;
  bytes: Promise<Buffer> | undefined;
}

function endOf(extent: Extent): number {
  return extent.offsetBytes + extent.lengthBytes;
}

/** Joins what lies close together, aligns it, and cuts it into pieces of at most a batch. */
function* wholeRanges(extents: readonly Extent[], sizeBytes: number): Generator<Extent> {
  const aligned = extents.map((extent) => {
    const offsetBytes = extent.offsetBytes - (extent.offsetBytes % ALIGNMENT);
    const end = Math.min(sizeBytes, Math.ceil(endOf(extent) / ALIGNMENT) * ALIGNMENT);
    return { offsetBytes, lengthBytes: end - offsetBytes + JOIN_GAP_BYTES };
  });
  for (const { offsetBytes, lengthBytes } of mergeExtents(aligned)) {
    const end = offsetBytes + lengthBytes - JOIN_GAP_BYTES;
    for (let at = offsetBytes; at < end; ) {
      const next = Math.min(end, at - (at % BATCH_BYTES) + BATCH_BYTES);
      yield { offsetBytes: at, lengthBytes: next - at };
      at = next;
    }
  }
}

function makeBatches(extents: readonly Extent[], sizeBytes: number): Batch[] {
  const batches: Batch[] = [];
  let ranges: Extent[] = [];
  let lengthBytes = 0;
  const close = (): void => {
    const first = ranges[0];
    const last = ranges.at(-1);
    if (first === undefined || last === undefined) return;
    const { offsetBytes } = first;
    batches.push({ ranges, offsetBytes, endBytes: endOf(last), bytes: undefined });
    ranges = [];
    lengthBytes = 0;
  };
  for (const range of wholeRanges(extents, sizeBytes)) {
    if (lengthBytes + range.lengthBytes > BATCH_BYTES || ranges.length === BATCH_RANGES) close();
    ranges.push(range);
    lengthBytes += range.lengthBytes;
  }
  close();
  return batches;
}

/**
 * A block device on the other side of a session.
 *
 * What a pass will read is told beforehand with `plan`: it is then asked for in disk order, a few
 * MiB ahead, so that neither the link's round trip nor the start of each dd is waited for.
 */
export class RemoteReader implements DiskReader {
  readonly sizeBytes: number;
  readonly #session: DeviceSession;
  readonly #codec: WireCodec;
  readonly #isDirect: boolean;
  readonly #windows = new Map<number, Promise<Buffer>>();
  #batches: readonly Batch[] = [];

  constructor(
    session: DeviceSession,
    setup: { readonly sizeBytes: number; readonly codec: WireCodec; readonly isDirect: boolean },
  ) {
    this.#session = session;
    this.sizeBytes = setup.sizeBytes;
    this.#codec = setup.codec;
    this.#isDirect = setup.isDirect;
  }

  /** Tells what will be read, in ascending order; ends an earlier plan. */
  plan(extents: readonly Extent[]): void {
    this.#batches = makeBatches(extents, this.sizeBytes);
  }

  async read(offsetBytes: number, lengthBytes: number): Promise<Buffer> {
    const end = offsetBytes + lengthBytes;
    if (!(offsetBytes >= 0 && lengthBytes >= 0 && end <= this.sizeBytes)) {
      throw new IngotError(
        'source-truncated',
        `bytes ${offsetBytes} to ${end} are outside a source of ${this.sizeBytes} bytes`,
      );
    }
    if (lengthBytes === 0) return Buffer.alloc(0);
    const planned = await this.#readPlanned(offsetBytes, end);
    if (planned !== undefined) return planned;
    if (lengthBytes <= WINDOW_BYTES / 2) return this.#readSmall(offsetBytes, end);
    return this.#readRange(offsetBytes, end);
  }

  async readInto(offsetBytes: number, target: Buffer): Promise<void> {
    (await this.read(offsetBytes, target.byteLength)).copy(target);
  }

  async dropStale(): Promise<void> {
    this.#windows.clear();
    this.#batches = [];
    if (!this.#isDirect) await this.#session.flush();
  }

  /** The session has its own owner. */
  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve();
  }

  /** Reads out of the planned batches, and asks for the next ones. */
  async #readPlanned(offsetBytes: number, end: number): Promise<Buffer | undefined> {
    const first = this.#batchAt(offsetBytes);
    if (first < 0) return undefined;
    let last = first;
    while ((this.#batches[last]?.endBytes ?? end) < end) last += 1;
    if (last >= this.#batches.length) return undefined;
    this.#forgetBefore(first - BATCHES_BEHIND);
    const wanted: Promise<Buffer>[] = [];
    for (let index = first; index <= last + BATCHES_AHEAD; index += 1) {
      const batch = this.#batches[index];
      if (batch === undefined) break;
      batch.bytes ??= quietly(this.#session.readRanges(batch.ranges, this.#codec));
      if (index <= last) wanted.push(batch.bytes);
    }
    const batches = this.#batches.slice(first, last + 1);
    const room = Buffer.alloc(end - offsetBytes);
    let copiedBytes = 0;
    for (const [index, bytes] of (await Promise.all(wanted)).entries()) {
      copiedBytes += copyRanges(bytes, batches[index]?.ranges ?? [], room, offsetBytes);
    }
    return copiedBytes === room.length ? room : undefined;
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
      if (batch?.bytes === undefined) return;
      batch.bytes = undefined;
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
    const [oldest] = this.#windows.keys();
    if (oldest !== undefined && this.#windows.size >= MAX_WINDOWS) this.#windows.delete(oldest);
    const window = this.#readRange(start, Math.min(start + WINDOW_BYTES, this.sizeBytes));
    this.#windows.set(start, quietly(window));
    return window;
  }

  async #readRange(offsetBytes: number, end: number): Promise<Buffer> {
    const from = offsetBytes - (offsetBytes % ALIGNMENT);
    const to = Math.min(this.sizeBytes, Math.ceil(end / ALIGNMENT) * ALIGNMENT);
    const range = { offsetBytes: from, lengthBytes: to - from };
    const bytes = await this.#session.readRanges([range], this.#codec);
    return bytes.subarray(offsetBytes - from, end - from);
  }
}

/** A batch that nobody reads any more may fail without anybody to hear of it. */
function quietly<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined);
  return promise;
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
