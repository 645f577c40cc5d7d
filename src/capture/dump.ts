import { crc32 } from 'node:zlib';
import { type Clock, formatBytes, IngotError, type OnProgress } from '../base/index.ts';
import { combineCrc32, crc32OfZeros, type Extent, totalBytes } from '../bytes/index.ts';
import type { DumpTarget, WriteWatch } from './dump-target.ts';
import type { CaptureFacts, SnapshotPass, SnapshotSource } from './snapshot-source.ts';
import type { StreamCompressor } from './stream-compressor.ts';

/** One read of the source; large enough to keep a disk busy, small enough to hold several. */
const READ_BYTES = 1024 * 1024;
const READS_IN_FLIGHT = 4;
/** Zero runs of this length are holes in a sparse target. */
const HOLE_BYTES = 64 * 1024;
/** Coded zero pieces that are written at once. */
const ZERO_BATCH = 64;
/** Bytes of a raw image that are sent before the freeze: no filesystem but XFS writes there. */
const RAW_PRELUDE_BYTES = 1024;
/** XFS has its super block first; its magic number is all that never changes. */
const XFS_PRELUDE_BYTES = 4;

const ZEROS = Buffer.alloc(READ_BYTES);

/** What a dump tells at its end. */
export interface DumpReport {
  readonly sizeBytes: number;
  readonly allocatedBytes: number;
  /** Bytes that went to the target; holes of a sparse file are not among them. */
  readonly writtenBytes: number;
  readonly capture: CaptureFacts;
  readonly notices: readonly string[];
  readonly elapsedMs: number;
}

/** A stretch of the image in order. */
interface Stretch extends Extent {
  readonly kind: 'data' | 'hole';
}

/** Cuts an image into reads and holes, in order, covering every byte once. */
function* stretches(
  extents: readonly Extent[],
  fromBytes: number,
  sizeBytes: number,
): Generator<Stretch> {
  let at = fromBytes;
  for (const extent of extents) {
    const end = extent.offsetBytes + extent.lengthBytes;
    if (end <= at) continue;
    if (extent.offsetBytes > at) {
      yield { kind: 'hole', offsetBytes: at, lengthBytes: extent.offsetBytes - at };
      at = extent.offsetBytes;
    }
    while (at < end) {
      // Reads end at multiples of their size, so that they stay aligned after an odd start.
      const next = Math.min(end, at - (at % READ_BYTES) + READ_BYTES);
      yield { kind: 'data', offsetBytes: at, lengthBytes: next - at };
      at = next;
    }
  }
  if (at < sizeBytes) yield { kind: 'hole', offsetBytes: at, lengthBytes: sizeBytes - at };
}

/** Keeps a promise that is awaited later from being reported as unhandled. */
function later<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined);
  return promise;
}

/**
 * Reads the data stretches a little ahead of who takes them.
 *
 * @param onAllRead called once the last read has come, before it is handed out
 */
async function* readAhead(
  pass: SnapshotPass,
  todo: Iterable<Stretch>,
  onAllRead: () => Promise<void>,
): AsyncGenerator<{ readonly stretch: Stretch; readonly plain: Buffer | undefined }> {
  const queue: { readonly stretch: Stretch; readonly plain: Promise<Buffer | undefined> }[] = [];
  const next = todo[Symbol.iterator]();
  let isDone = false;
  let isAllRead = false;
  for (;;) {
    while (!isDone && queue.length < READS_IN_FLIGHT) {
      const { value: stretch, done } = next.next();
      if (done === true) {
        isDone = true;
      } else {
        const plain =
          stretch.kind === 'data'
            ? later(pass.read(stretch.offsetBytes, stretch.lengthBytes))
            : Promise.resolve(undefined);
        queue.push({ stretch, plain });
      }
    }
    const first = queue.shift();
    if (first === undefined) return;
    const plain = await first.plain;
    if (isDone && !isAllRead && queue.every(({ stretch }) => stretch.kind === 'hole')) {
      isAllRead = true;
      await onAllRead();
    }
    yield { stretch: first.stretch, plain };
  }
}

/** Takes an image's plain bytes in order and brings them to the target in some coding. */
interface Sink {
  data(plain: Buffer): Promise<void>;
  zeros(lengthBytes: number): Promise<void>;
  end(): Promise<void>;
}

/** @returns whether all bytes are zero */
function isZero(bytes: Buffer): boolean {
  return bytes.equals(ZEROS.subarray(0, bytes.length));
}

/** The exact bytes; zero runs become holes where the target can have them. */
function rawSink(target: DumpTarget, watch: WriteWatch): Sink {
  return {
    data: async (plain) => {
      if (!target.isSparse) return target.write(plain, watch);
      let pending = 0;
      for (let at = 0; at < plain.length; at += HOLE_BYTES) {
        const piece = plain.subarray(at, at + HOLE_BYTES);
        if (!isZero(piece)) continue;
        if (at > pending) await target.write(plain.subarray(pending, at), watch);
        await target.skip(piece.length);
        pending = at + piece.length;
      }
      if (pending < plain.length) await target.write(plain.subarray(pending), watch);
      return undefined;
    },
    zeros: async (lengthBytes) => {
      if (target.isSparse) return target.skip(lengthBytes);
      for (let left = lengthBytes; left > 0; left -= ZEROS.length) {
        await target.write(ZEROS.subarray(0, Math.min(left, ZEROS.length)), watch);
      }
      return undefined;
    },
    end: () => Promise.resolve(),
  };
}

/** Compresses pieces in parallel and writes them in order, with a bounded number in flight. */
class CompressedSink implements Sink {
  readonly #compressor: StreamCompressor;
  readonly #target: DumpTarget;
  readonly #watch: WriteWatch;
  readonly #coded: Promise<Uint8Array>[] = [];
  #zeroPiece: Promise<Uint8Array> | undefined;
  #crc32 = 0;
  #lengthBytes = 0;

  constructor(compressor: StreamCompressor, target: DumpTarget, watch: WriteWatch) {
    this.#compressor = compressor;
    this.#target = target;
    this.#watch = watch;
  }

  async data(plain: Buffer): Promise<void> {
    const { pieceBytes, piecesInFlight } = this.#compressor;
    for (let at = 0; at < plain.length; at += pieceBytes) {
      const piece = plain.subarray(at, at + pieceBytes);
      this.#count(crc32(piece), piece.length);
      this.#coded.push(later(this.#compressor.encode(piece)));
      await this.#drain(piecesInFlight);
    }
  }

  async zeros(lengthBytes: number): Promise<void> {
    const { pieceBytes } = this.#compressor;
    this.#count(crc32OfZeros(lengthBytes), lengthBytes);
    await this.#drain(0);
    let left = lengthBytes;
    if (left >= pieceBytes) {
      this.#zeroPiece ??= this.#compressor.encode(Buffer.alloc(pieceBytes));
      const one = await this.#zeroPiece;
      const batch = Buffer.concat(new Array<Uint8Array>(ZERO_BATCH).fill(one));
      while (left >= pieceBytes) {
        const count = Math.min(ZERO_BATCH, Math.floor(left / pieceBytes));
        await this.#target.write(batch.subarray(0, count * one.length), this.#watch);
        left -= count * pieceBytes;
      }
    }
    if (left > 0) {
      await this.#target.write(await this.#compressor.encode(Buffer.alloc(left)), this.#watch);
    }
  }

  async end(): Promise<void> {
    await this.#drain(0);
    const trailer = this.#compressor.trailer({
      crc32: this.#crc32,
      lengthBytes: this.#lengthBytes,
    });
    if (trailer.length > 0) await this.#target.write(trailer, this.#watch);
  }

  #count(pieceCrc32: number, lengthBytes: number): void {
    this.#crc32 = combineCrc32(this.#crc32, pieceCrc32, lengthBytes);
    this.#lengthBytes += lengthBytes;
  }

  async #drain(downTo: number): Promise<void> {
    while (this.#coded.length > downTo) {
      const coded = await this.#coded.shift();
      if (coded !== undefined) await this.#target.write(coded, this.#watch);
    }
  }
}

/** What an image begins with, as far as no filesystem changes it while it is mounted. */
async function readPrelude(pass: SnapshotPass): Promise<Buffer> {
  const lengthBytes = Math.min(RAW_PRELUDE_BYTES, pass.sizeBytes);
  const [first] = pass.extents;
  if (first === undefined || first.offsetBytes >= lengthBytes) return Buffer.alloc(lengthBytes);
  if (first.offsetBytes > 0) return Buffer.alloc(first.offsetBytes);
  const bytes = await pass.read(0, Math.min(lengthBytes, first.lengthBytes));
  const isXfs = bytes.toString('latin1', 0, XFS_PRELUDE_BYTES) === 'XFSB';
  return isXfs ? bytes.subarray(0, XFS_PRELUDE_BYTES) : bytes;
}

/** Sends what needs no freeze, and waits until the reader has it (an ssh has logged in then). */
async function sendPrelude(
  live: SnapshotPass,
  {
    target,
    compressor,
    watch,
  }: {
    readonly target: DumpTarget;
    readonly compressor: StreamCompressor | undefined;
    readonly watch: WriteWatch;
  },
): Promise<Buffer> {
  let prelude = Buffer.alloc(0);
  if (compressor !== undefined) {
    await target.write(compressor.header, watch);
  } else if (!target.isSparse) {
    prelude = Buffer.from(await readPrelude(live));
    await target.write(prelude, watch);
  }
  await target.taken(watch);
  return prelude;
}

async function checkPrelude(pass: SnapshotPass, prelude: Buffer): Promise<void> {
  if (prelude.length === 0) return;
  if (!prelude.equals(await readPrelude(pass))) {
    throw new IngotError(
      'source-unreadable',
      `the first ${prelude.length} bytes of the source changed before it was frozen`,
    );
  }
}

function checkRoom(live: SnapshotPass, target: DumpTarget): void {
  const neededBytes = target.isSparse ? totalBytes(live.extents) : live.sizeBytes;
  const { roomBytes } = target;
  if (roomBytes !== undefined && roomBytes < neededBytes) {
    throw new IngotError(
      'target-too-small',
      `the image needs ${formatBytes(neededBytes)}, the target has ${formatBytes(roomBytes)}`,
      { neededBytes, roomBytes },
    );
  }
}

/** What a dump needs. */
export interface DumpRequest {
  readonly source: SnapshotSource;
  readonly target: DumpTarget;
  /** Undefined: the exact bytes. */
  readonly compressor: StreamCompressor | undefined;
  readonly onProgress: OnProgress;
  readonly signal: AbortSignal;
  readonly clock: Clock;
}

/** Checks that the image fits and sends its beginning, while nothing is frozen yet. */
async function prepare(
  { source, target, compressor }: DumpRequest,
  watch: WriteWatch,
): Promise<Buffer> {
  const live = await source.pass('live');
  try {
    if (compressor === undefined) checkRoom(live, target);
    return await sendPrelude(live, { target, compressor, watch });
  } finally {
    await live.end();
  }
}

/** Brings a pass to the target; the pass ends with its last read. */
async function copyPass(
  pass: SnapshotPass,
  { target, compressor, onProgress }: DumpRequest,
  { prelude, watch }: { readonly prelude: Buffer; readonly watch: WriteWatch },
): Promise<void> {
  const sink =
    compressor === undefined
      ? rawSink(target, watch)
      : new CompressedSink(compressor, target, watch);
  const allocatedBytes = totalBytes(pass.extents);
  let doneBytes = prelude.length;
  await checkPrelude(pass, prelude);
  const todo = stretches(pass.extents, prelude.length, pass.sizeBytes);
  for await (const { stretch, plain } of readAhead(pass, todo, () => pass.end())) {
    watch.alive();
    if (plain === undefined) {
      await sink.zeros(stretch.lengthBytes);
    } else {
      await sink.data(plain);
      doneBytes += plain.length;
      onProgress({ doneBytes, totalBytes: allocatedBytes, stage: 'copying the snapshot' });
    }
  }
  await pass.end();
  await sink.end();
}

/**
 * Copies a snapshot to a pipe or file in one frozen pass.
 *
 * Everything that needs no freeze is done before it; the freeze ends with the last read, while
 * compression and writing may go on.
 *
 * @returns what happened, after the target was committed
 * @throws IngotError of the source and of the target; nothing is frozen then, and a file target
 *   leaves nothing behind once it is disposed of
 */
export async function dumpSnapshot(request: DumpRequest): Promise<DumpReport> {
  const { source, target, signal, clock } = request;
  const startedAt = clock.monotonic();
  let pass: SnapshotPass | undefined;
  let writtenBytes = 0;
  let isOver = false;
  const watch: WriteWatch = {
    alive: () => {
      signal.throwIfAborted();
      if (!isOver) pass?.freeze?.check();
    },
    wrote: (bytes) => {
      writtenBytes += bytes;
      pass?.freeze?.progressed();
    },
  };
  const prelude = await prepare(request, watch);
  signal.throwIfAborted();
  pass = await source.pass('frozen');
  const allocatedBytes = totalBytes(pass.extents);
  try {
    await copyPass(pass, request, { prelude, watch });
  } finally {
    isOver = true;
    await pass.end();
  }
  signal.throwIfAborted();
  await target.commit();
  return {
    sizeBytes: pass.sizeBytes,
    allocatedBytes,
    writtenBytes,
    capture: source.facts(),
    notices: source.notices(),
    elapsedMs: clock.monotonic() - startedAt,
  };
}
