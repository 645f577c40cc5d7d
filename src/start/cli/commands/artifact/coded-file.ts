import { open } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { errnoOf, IngotError } from '../../../../base/index.ts';
import { crc32OfZeros, MAX_CHUNK_BYTES, storedSegmentBytes } from '../../../../bytes/index.ts';
import type { CodedPiece } from '../../../../publish/index.ts';
import { inOrder } from '../../../../publish/index.ts';
import { Holes } from './file-holes.ts';

/** More cores than this wait for the digest, which is one chain. */
const MAX_THREADS = 8;
/** Pieces of each thread that are under way or wait to be written: it must not run dry. */
const PIECES_PER_THREAD = 4;
const SLOT_BYTES = storedSegmentBytes(MAX_CHUNK_BYTES);

/** What a thread is started with. */
export interface CodingThread {
  readonly path: string;
  readonly engineName: string;
  /** Takes the coded bytes of all threads. */
  readonly room: SharedArrayBuffer;
}

/** A part of the room. */
interface Slot {
  readonly startBytes: number;
  readonly lengthBytes: number;
}

/** A piece for a thread, of {@link MAX_CHUNK_BYTES} where the file has so many. */
export interface CodingTask {
  readonly number: number;
  readonly offsetBytes: number;
  readonly slot: Slot;
}

/** What became of it. */
export interface CodingResult {
  readonly number: number;
  readonly plainBytes: number;
  /** 0 for zeros. */
  readonly crc32: number;
  /** 0 for zeros. */
  readonly codedBytes: number;
}

interface Thread {
  readonly worker: Worker;
  /** Settles when it has exited, whatever the reason. */
  readonly exited: Promise<void>;
  taskCount: number;
}

/** Threads that code pieces of one file into memory that is used again. */
class CodingThreads implements AsyncDisposable {
  readonly #room: SharedArrayBuffer;
  readonly #threads: readonly Thread[];
  readonly #free: Slot[];
  readonly #waiting = new Map<number, PromiseWithResolvers<CodingResult>>();
  #lastNumber = 0;
  #failure: unknown;

  constructor(path: string, engineName: string, threadCount: number) {
    // One piece more than are under way is being written.
    const slotCount = threadCount * PIECES_PER_THREAD + 1;
    this.#room = new SharedArrayBuffer(slotCount * SLOT_BYTES);
    this.#free = Array.from({ length: slotCount }, (_, i) => ({
      startBytes: i * SLOT_BYTES,
      lengthBytes: SLOT_BYTES,
    }));
    const workerData: CodingThread = { path, engineName, room: this.#room };
    this.#threads = Array.from({ length: threadCount }, () => this.#start(path, workerData));
  }

  /**
   * Codes a piece.
   *
   * @returns the result and the slot of its bytes, which the caller gives back
   * @throws IngotError `source-unreadable`
   */
  async code(offsetBytes: number): Promise<{ readonly result: CodingResult; readonly slot: Slot }> {
    if (this.#failure !== undefined) throw this.#failure;
    const slot = this.#free.pop();
    if (slot === undefined)
      throw new RangeError('more pieces are under way than there is room for');
    const thread = this.#threads.reduce((a, b) => (b.taskCount < a.taskCount ? b : a));
    this.#lastNumber += 1;
    const number = this.#lastNumber;
    const done = Promise.withResolvers<CodingResult>();
    this.#waiting.set(number, done);
    thread.taskCount += 1;
    thread.worker.postMessage({ number, offsetBytes, slot } satisfies CodingTask);
    return { result: await done.promise, slot };
  }

  bytesOf(slot: Slot, lengthBytes: number): Buffer {
    return Buffer.from(this.#room, slot.startBytes, lengthBytes);
  }

  giveBack(slot: Slot): void {
    this.#free.push(slot);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#fail(new Error('the threads of a file were ended'));
    // Not terminated: a thread that is ended while it loads the engine takes the process with it.
    for (const { worker } of this.#threads) worker.postMessage('end');
    await Promise.all(this.#threads.map(({ exited }) => exited));
  }

  #start(path: string, workerData: CodingThread): Thread {
    const worker = new Worker(new URL('./coded-file-worker.ts', import.meta.url), {
      workerData,
      resourceLimits: { maxYoungGenerationSizeMb: 2 },
    });
    const exited = new Promise<void>((resolve) => {
      worker.once('exit', () => resolve());
    });
    const thread: Thread = { worker, exited, taskCount: 0 };
    worker.on('message', (result: CodingResult) => {
      thread.taskCount -= 1;
      this.#waiting.get(result.number)?.resolve(result);
      this.#waiting.delete(result.number);
    });
    worker.on('error', (cause) => {
      this.#fail(
        new IngotError('source-unreadable', `${path} cannot be read`, { path }, { cause }),
      );
    });
    worker.on('exit', () => this.#fail(new Error('a thread that codes a file has ended')));
    return thread;
  }

  /** The first failure counts. */
  #fail(failure: unknown): void {
    this.#failure ??= failure;
    for (const { reject } of this.#waiting.values()) reject(this.#failure);
    this.#waiting.clear();
  }
}

/** Where a piece is read, or a run of zeros. */
type Place = { readonly offsetBytes: number } | { readonly zeroBytes: number };

/** The pieces of a file, holes in one. */
async function* placesOf(fd: number, sizeBytes: number): AsyncGenerator<Place, void, undefined> {
  const holes = new Holes(fd);
  for (let at = 0; at <= sizeBytes; ) {
    const holeBytes = holes.untilData(at);
    const isToEnd = at + holeBytes === sizeBytes;
    const zeroBytes = isToEnd ? holeBytes : holeBytes - (holeBytes % MAX_CHUNK_BYTES);
    if (zeroBytes > 0) {
      yield { zeroBytes };
      at += zeroBytes;
      continue;
    }
    // Also where it should end: one that has grown gives more than it promised.
    yield { offsetBytes: at };
    at += MAX_CHUNK_BYTES;
  }
}

/**
 * Reads a regular file and codes it on all cores, in pieces of `MAX_CHUNK_BYTES`: the same segments
 * as coding what was read elsewhere, for less time. Holes are not read.
 *
 * @param engineName of the segment codec that codes
 * @returns pieces in order; a segment is valid until the next piece is asked for
 * @throws IngotError `file-not-found`, `source-unreadable`
 */
export async function* codeFile(
  path: string,
  engineName: string,
  threadCount: number = Math.min(availableParallelism(), MAX_THREADS),
): AsyncGenerator<CodedPiece, void, undefined> {
  await using file = await open(path, 'r').catch((cause: unknown) => {
    const errno = errnoOf(cause);
    const code = errno === 'ENOENT' ? 'file-not-found' : 'source-unreadable';
    throw new IngotError(code, `${path} cannot be read: ${errno}`, { path }, { cause });
  });
  const { size: sizeBytes } = await file.stat();
  await using threads = new CodingThreads(path, engineName, threadCount);
  const code = async (place: Place) =>
    'zeroBytes' in place ? place : await threads.code(place.offsetBytes);
  const limit = threadCount * PIECES_PER_THREAD;
  for await (const coded of inOrder(placesOf(file.fd, sizeBytes), code, { limit })) {
    if ('zeroBytes' in coded) {
      yield zeros(coded.zeroBytes);
      continue;
    }
    const { plainBytes, crc32, codedBytes } = coded.result;
    if (codedBytes > 0) {
      yield { own: threads.bytesOf(coded.slot, codedBytes), crc32, plainBytes };
    } else if (plainBytes > 0) {
      yield zeros(plainBytes);
    }
    threads.giveBack(coded.slot);
  }
}

function zeros(plainBytes: number): CodedPiece {
  return { own: undefined, crc32: crc32OfZeros(plainBytes), plainBytes };
}
