import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { copyBytes, digestBytes } from '../../base/index.ts';
import { MAX_CHUNK_BYTES, MAX_CODED_BYTES, type Segment } from '../../bytes/index.ts';
import {
  type ChunkWorkers,
  type CodedSpan,
  LENT_AT_ONCE,
  LENT_BYTES,
  LENT_SEGMENTS_AT_ONCE,
  type LentBuffer,
  type LentSegments,
  type NamedSpan,
  type Span,
} from '../chunks/chunk-workers.ts';
import {
  CHECK_PROBLEMS,
  type ChunkTask,
  CODED_NUMBERS,
  DECODE_PROBLEMS,
  DECODED_NUMBERS,
  SEGMENT_NUMBERS,
  SPAN_NUMBERS,
} from './chunk-tasks.ts';
import { SharedMemory } from './shared-memory.ts';
import { TaskThread } from './task-thread.ts';

type ChunkThread = TaskThread<ChunkTask, Uint8Array | Uint32Array>;

/** More threads than this outrun every disk, and each takes about 15 MB. */
const MAX_THREADS = 8;

/** Tasks that a thread has at once: while one answer is taken, it finds the next task. */
const TASKS_PER_THREAD = 2;

/** Stored blocks are longer than what they hold. */
const CODED_BUFFER_BYTES = LENT_BYTES + 64 * 1024;

interface Call {
  readonly task: ChunkTask;
  readonly done: PromiseWithResolvers<Uint8Array | Uint32Array>;
}

/** Segments in memory that threads share. */
interface SharedSegments extends Disposable {
  readonly bytes: Buffer;
  /** Views into {@link bytes}, one for each segment. */
  readonly coded: readonly Uint8Array[];
}

/** {@link ChunkWorkers} on worker threads, one for each core; they start with the first loan or call. */
class ThreadChunkWorkers implements ChunkWorkers {
  readonly #engineName: string;
  readonly #plain = new SharedMemory(LENT_BYTES, LENT_AT_ONCE);
  readonly #coded = new SharedMemory(CODED_BUFFER_BYTES, LENT_SEGMENTS_AT_ONCE);
  readonly #count = Math.min(availableParallelism(), MAX_THREADS);
  readonly #waiting: Call[] = [];
  #threads: readonly ChunkThread[] = [];
  #hasEnded = false;

  constructor(engineName: string) {
    this.#engineName = engineName;
  }

  lend(lengthBytes: number): Promise<LentBuffer> {
    // Whoever wants memory has work soon: the threads load their engine while it is fetched.
    if (!this.#hasEnded) this.#startThreads();
    return this.#plain.lend(lengthBytes);
  }

  async digests(bytes: Buffer, spans: readonly Span[]): Promise<Buffer> {
    if (spans.length === 0) return Buffer.alloc(0);
    const digests = await this.#run({ kind: 'digest', bytes, numbers: numbersOf(spans) });
    return Buffer.from(digests.buffer, digests.byteOffset, digests.byteLength);
  }

  async encode(
    bytes: Buffer,
    chunks: readonly NamedSpan[],
    { isCompared }: { readonly isCompared: boolean },
  ): Promise<LentSegments> {
    using undo = new DisposableStack();
    const target = undo.use(await this.#coded.lend(CODED_BUFFER_BYTES));
    const numbers = await this.#run({
      kind: 'encode',
      bytes,
      numbers: numbersOf(chunks),
      target: target.bytes,
      isCompared,
    });
    const segments: Segment[] = [];
    let at = 0;
    for (const [i, { digest, lengthBytes }] of chunks.entries()) {
      const codedBytes = numbers[i * CODED_NUMBERS] ?? 0;
      segments.push({
        digest,
        plainBytes: lengthBytes,
        plainCrc32: numbers[i * CODED_NUMBERS + 1] ?? 0,
        codedCrc32: numbers[i * CODED_NUMBERS + 2] ?? 0,
        coded: target.bytes.subarray(at, at + codedBytes),
      });
      at += codedBytes;
    }
    const lent = undo.move();
    return { segments, [Symbol.dispose]: () => lent.dispose() };
  }

  async check(segments: readonly Segment[]): Promise<readonly (string | undefined)[]> {
    const problems = segments.map(lengthProblem);
    const sound = segments.filter((_, i) => problems[i] === undefined);
    // One body is one call: its parts are spread so that it is done soon.
    const parts = this.#partsOf(sound);
    const done = await Promise.allSettled(parts.map((part) => this.#checkPart(part)));
    const found = done.flatMap((result) => {
      if (result.status === 'rejected') throw result.reason;
      return result.value;
    });
    let next = 0;
    return problems.map((problem) => problem ?? found[next++]);
  }

  async decode(
    target: Buffer,
    segments: readonly CodedSpan[],
  ): Promise<readonly (string | undefined)[]> {
    if (segments.length === 0) return [];
    using lent = await this.#sharedOf(segments);
    const numbers = new Uint32Array(segments.length * DECODED_NUMBERS);
    const digests = new Uint8Array(segments.length * 32);
    for (const [i, { startBytes, lengthBytes, digest }] of segments.entries()) {
      const coded = lent.coded[i];
      if (coded === undefined) throw new Error('a segment has lost its bytes');
      const start = coded.byteOffset - lent.bytes.byteOffset;
      numbers.set([start, coded.byteLength, startBytes, lengthBytes], i * DECODED_NUMBERS);
      digests.set(digestBytes(digest), i * 32);
    }
    const { bytes } = lent;
    const found = await this.#run({ kind: 'decode', bytes, numbers, digests, target });
    return Array.from(found, (problem) => DECODE_PROBLEMS[problem]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#hasEnded = true;
    for (const { done } of this.#waiting.splice(0))
      done.reject(new Error('the workers have ended'));
    await Promise.all(this.#threads.map((thread) => thread.end()));
  }

  #partsOf(segments: readonly Segment[]): Segment[][] {
    const sizeBytes = segments.reduce((sum, { plainBytes }) => sum + plainBytes, 0);
    const parts: Segment[][] = [];
    let left = 0;
    for (const segment of segments) {
      if (left <= 0) {
        parts.push([]);
        left = sizeBytes / this.#count;
      }
      parts.at(-1)?.push(segment);
      left -= segment.plainBytes;
    }
    return parts;
  }

  async #checkPart(segments: readonly Segment[]): Promise<(string | undefined)[]> {
    using lent = await this.#sharedOf(segments);
    const numbers = new Uint32Array(segments.length * SEGMENT_NUMBERS);
    const digests = new Uint8Array(segments.length * 32);
    for (const [i, segment] of segments.entries()) {
      const { plainBytes, plainCrc32, codedCrc32 } = segment;
      const coded = lent.coded[i] ?? segment.coded;
      const start = coded.byteOffset - lent.bytes.byteOffset;
      numbers.set(
        [start, coded.byteLength, plainBytes, plainCrc32, codedCrc32],
        i * SEGMENT_NUMBERS,
      );
      digests.set(digestBytes(segment.digest), i * 32);
    }
    const found = await this.#run({ kind: 'check', bytes: lent.bytes, numbers, digests });
    return Array.from(found, (problem) => CHECK_PROBLEMS[problem]);
  }

  /** Segments in shared memory: where they lie, or copied. */
  async #sharedOf(segments: readonly { readonly coded: Uint8Array }[]): Promise<SharedSegments> {
    const memory = segments[0]?.coded.buffer;
    if (
      memory instanceof SharedArrayBuffer &&
      segments.every(({ coded }) => coded.buffer === memory)
    ) {
      const coded = segments.map((segment) => segment.coded);
      return { coded, bytes: Buffer.from(memory), [Symbol.dispose]: () => undefined };
    }
    const sizeBytes = segments.reduce((sum, { coded }) => sum + coded.byteLength, 0);
    const lent = await this.#coded.lend(sizeBytes);
    let at = 0;
    const copies = segments.map(({ coded }) => {
      copyBytes(lent.bytes, at, coded);
      at += coded.byteLength;
      return lent.bytes.subarray(at - coded.byteLength, at);
    });
    return { coded: copies, bytes: lent.bytes, [Symbol.dispose]: () => lent[Symbol.dispose]() };
  }

  async #run(task: ChunkTask): Promise<Uint8Array | Uint32Array> {
    if (this.#hasEnded) throw new Error('the workers have ended');
    const done = Promise.withResolvers<Uint8Array | Uint32Array>();
    this.#waiting.push({ task, done });
    this.#startWaiting();
    return await done.promise;
  }

  #startThreads(): void {
    if (this.#threads.length > 0) return;
    this.#threads = Array.from(
      { length: this.#count },
      () => new TaskThread(this.#newWorker(), () => this.#startWaiting()),
    );
  }

  #newWorker(): Worker {
    return new Worker(new URL('./chunk-worker.ts', import.meta.url), {
      workerData: this.#engineName,
      resourceLimits: { maxYoungGenerationSizeMb: 4 },
    });
  }

  #startWaiting(): void {
    if (this.#hasEnded) return;
    this.#startThreads();
    while (this.#waiting.length > 0) {
      const idlest = this.#threads.reduce((best, one) => (one.load < best.load ? one : best));
      if (idlest.load >= TASKS_PER_THREAD) return;
      const call = this.#waiting.shift();
      if (call === undefined) return;
      const { done, task } = call;
      idlest.run(task).then(done.resolve, done.reject);
    }
  }
}

function numbersOf(spans: readonly Span[]): Uint32Array {
  const numbers = new Uint32Array(spans.length * SPAN_NUMBERS);
  for (const [i, { startBytes, lengthBytes }] of spans.entries()) {
    numbers[i * SPAN_NUMBERS] = startBytes;
    numbers[i * SPAN_NUMBERS + 1] = lengthBytes;
  }
  return numbers;
}

/** What is no length at all must not reach the numbers of a task. */
function lengthProblem({ plainBytes, coded }: Segment): string | undefined {
  if (!Number.isInteger(plainBytes) || plainBytes < 1 || plainBytes > MAX_CHUNK_BYTES) {
    return `a chunk has 1 to ${MAX_CHUNK_BYTES} bytes, not ${plainBytes}`;
  }
  if (coded.length < 1 || coded.length > MAX_CODED_BYTES) {
    return `a segment has 1 to ${MAX_CODED_BYTES} bytes, not ${coded.length}`;
  }
  return undefined;
}

/**
 * Opens the workers of this process; their threads start with the first work.
 *
 * @param engineName name of the chosen codec: the threads code with the same engine
 */
export function openChunkWorkers(engineName: string): ChunkWorkers {
  return new ThreadChunkWorkers(engineName);
}
