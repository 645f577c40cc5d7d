import { errnoOf, IngotError } from '../../../../base/index.ts';
import { crc32OfZeros } from '../../../../bytes/index.ts';
import { alignedShared } from '../../../../keep/adapters/shared-memory.ts';
import type { TaskThread } from '../../../../keep/adapters/task-thread.ts';
import { type CodedPart, crc32OfRuns, Pace, type Part, roomsIn } from './coding-parts.ts';
import { type CodingResult, type CodingTask, codedRoomBytes } from './coding-tasks.ts';
import { type Place, WINDOW_BYTES } from './file-places.ts';

/** A thread that codes a file. */
export type FileThread = Pick<TaskThread<CodingTask, CodingResult>, 'load' | 'run'>;

/** Tasks that a thread has at once: while one answer is taken, it finds the next task. */
const TASKS_PER_THREAD = 2;
/** Windows that are kept from hashing to coding; more of them would not stay in the cache. */
const KEPT_WINDOWS = 12;
/** Coded windows of each thread that are under way or wait to be written. */
const CODED_PER_THREAD = 3;
/** Zeros that are hashed in one go: then somebody may want to stop. */
const ZEROS_BYTES = 8 * WINDOW_BYTES;
/** Windows of a cold file that are read from the disk at once. */
const READS_AHEAD = 4;
/** Places that may be known between the first that is not written and the last. */
const MAX_PARTS = 4096;

/** Reads what is not in the page cache while all threads have other work. */
export interface ColdReader {
  /** Whether a place is better read by this. */
  isCold(lengthBytes: number, offsetBytes: number): boolean;
  /** @returns how many bytes were read: 0 at the end of the file */
  readInto(target: Buffer, offsetBytes: number): Promise<number>;
}

/** What is coded, and by whom. */
export interface FileCoderSetup {
  readonly path: string;
  readonly places: Iterator<Place, undefined>;
  readonly sizeBytes: number;
  /** How many bytes are no holes, about. */
  readonly dataBytes: number;
  readonly isHashed: boolean;
  readonly threads: readonly FileThread[];
  readonly coldReader: ColdReader;
  readonly onHashed: (hashedBytes: number) => void;
}

/**
 * Shares the work on a file out to threads: the first one hashes, which is one chain through the whole
 * file, and codes when it can wait; the others code.
 *
 * The chain goes first, by the length of a few windows: they are read once, into memory that is
 * coded next; what must come from the disk is read before, so that no thread waits for it. It goes farther, and who codes reads again, when it would be the last to end: from there
 * on it waits for nobody, so that all threads have work until the end. Where it is behind (a long hole),
 * others code what it has not read yet.
 */
export class FileCoder {
  readonly #setup: FileCoderSetup;
  /** At addresses that direct reads take. */
  readonly #rooms = roomsIn(alignedShared(KEPT_WINDOWS * WINDOW_BYTES), WINDOW_BYTES);
  readonly #targets: Buffer[];
  /** In the file's order, until they are taken to be written. */
  readonly #parts: Part[] = [];
  #current: Part | undefined;
  /** Parts that are read from the disk for the chain, or have been, before all of `#toHash`. */
  readonly #coldParts: Part[] = [];
  readonly #coldReads = new Set<Promise<void>>();
  /** Parts that are hashed and not coded, and the reverse. */
  readonly #toCode: Part[] = [];
  readonly #toHash: Part[] = [];
  readonly #sha256 = Promise.withResolvers<Uint8Array>();
  readonly #hashing = new Pace();
  readonly #coding = new Pace();
  #nextPlace: Place | undefined;
  #areAllTaken = false;
  #isDigestAsked: boolean;
  /** Of a hole that is being hashed. */
  #zerosLeft = 0;
  #partsInHash = 0;
  #hashedBytes = 0;
  #codedBytes = 0;
  #settled = Promise.withResolvers<void>();
  #failure: { readonly thrown: unknown } | undefined;

  constructor(setup: FileCoderSetup) {
    this.#setup = setup;
    this.#isDigestAsked = !setup.isHashed;
    const targetCount = setup.threads.length * CODED_PER_THREAD + TASKS_PER_THREAD;
    const targetBytes = codedRoomBytes(WINDOW_BYTES);
    this.#targets = roomsIn(alignedShared(targetCount * targetBytes), targetBytes);
    this.#sha256.promise.catch(() => undefined);
  }

  /** The SHA-256 of all bytes, where they are hashed; it settles when all are. */
  get sha256(): Promise<Uint8Array> {
    return this.#sha256.promise;
  }

  /**
   * @returns the next part in the file's order, undefined after the last
   * @throws IngotError `source-unreadable`, `content-changed`; what a thread died of
   */
  async next(): Promise<CodedPart | undefined> {
    for (;;) {
      this.fill();
      const part = this.#parts.shift();
      this.#current = part;
      if (part !== undefined) return await part.coded.promise;
      if (this.#failure !== undefined) throw this.#failure.thrown;
      if (this.#areAllTaken) return undefined;
      await this.#settled.promise;
    }
  }

  giveBack(target: Buffer): void {
    this.#targets.push(target);
    this.fill();
  }

  /** Gives each thread that is short of work its next tasks. */
  fill(): void {
    this.#readAhead();
    for (const [i, thread] of this.#setup.threads.entries()) {
      while (this.#failure === undefined && thread.load < TASKS_PER_THREAD) {
        const isStarted = (i === 0 && this.#hashNext(thread)) || this.#codeNext(thread);
        if (!isStarted) break;
      }
    }
  }

  /** Ends all waiting. The first failure counts. */
  fail(thrown: unknown): void {
    this.#failure ??= { thrown };
    this.#sha256.reject(thrown);
    this.#current?.coded.reject(thrown);
    for (const { coded } of this.#parts) coded.reject(thrown);
    this.#settle();
  }

  /** Ends all work; returns when no memory is written to any more but by the threads. */
  async end(): Promise<void> {
    this.fail(new Error('the coding of a file was ended'));
    await Promise.allSettled(this.#coldReads);
  }

  /** Begins to read for the chain what is not in the page cache, past it. */
  #readAhead(): void {
    while (
      this.#failure === undefined &&
      !this.#isDigestAsked &&
      this.#toHash.length === 0 &&
      this.#zerosLeft === 0 &&
      this.#coldReads.size < READS_AHEAD &&
      this.#rooms.length > 0 &&
      this.#isNextCold()
    ) {
      const room = this.#rooms.pop();
      if (room === undefined) return;
      const part = this.#take();
      if (part === undefined) {
        this.#rooms.push(room);
        return;
      }
      part.room = room;
      const reading = this.#readCold(part, room);
      this.#coldParts.push(part);
      this.#coldReads.add(reading);
      void reading.finally(() => this.#coldReads.delete(reading)).then(() => this.fill());
    }
  }

  #isNextCold(): boolean {
    const place = this.#peek();
    if (place === undefined || place.isHole) return false;
    return this.#setup.coldReader.isCold(place.lengthBytes, place.offsetBytes);
  }

  async #readCold(part: Part, room: Buffer): Promise<void> {
    const { offsetBytes, lengthBytes } = part.place;
    try {
      for (let done = 0; done < lengthBytes; ) {
        const target = room.subarray(done, lengthBytes);
        const count = await this.#setup.coldReader.readInto(target, offsetBytes + done);
        if (count === 0) throw this.#problem('short', offsetBytes);
        done += count;
      }
      part.isFilled = true;
    } catch (thrown) {
      const errno = thrown instanceof IngotError ? undefined : errnoOf(thrown);
      this.fail(errno === undefined ? thrown : this.#problem(errno, offsetBytes));
    }
  }

  #settle(): void {
    this.#settled.resolve();
    this.#settled = Promise.withResolvers();
  }

  /** @returns false when there is nothing to hash now */
  #hashNext(thread: FileThread): boolean {
    if (this.#isDigestAsked) return false;
    if (this.#zerosLeft > 0) {
      void this.#hashZeros(thread);
      return true;
    }
    const cold = this.#coldParts[0];
    if (cold !== undefined) {
      if (!cold.isFilled) return false;
      this.#coldParts.shift();
      void this.#hash(thread, cold, { isFirst: true });
      return true;
    }
    const isBehind = this.#toHash.length > 0;
    const room = isBehind ? undefined : this.#rooms.at(-1);
    if (!isBehind && room === undefined && !this.#mustHash()) return false;
    const part = this.#toHash.shift() ?? this.#take();
    if (part === undefined) {
      if (this.#areAllTaken) void this.#askDigest(thread);
      return this.#areAllTaken;
    }
    if (part.place.isHole) {
      this.#zerosLeft = part.place.lengthBytes;
      void this.#hashZeros(thread);
      return true;
    }
    if (room !== undefined) part.room = this.#rooms.pop();
    void this.#hash(thread, part, { isFirst: !isBehind });
    return true;
  }

  /** Whether all others would end before the chain. */
  #mustHash(): boolean {
    const { sizeBytes, dataBytes, threads } = this.#setup;
    const hashMs = this.#hashing.msFor(sizeBytes - this.#hashedBytes);
    const codeMs = this.#coding.msFor(Math.max(0, dataBytes - this.#codedBytes));
    return hashMs * (threads.length - 1) >= codeMs;
  }

  /** @returns false when there is nothing to code now, or no room for it */
  #codeNext(thread: FileThread): boolean {
    if (this.#targets.length === 0) return false;
    const part = this.#toCode.shift() ?? this.#takeAhead();
    if (part === undefined) return false;
    const target = this.#targets.pop();
    if (target === undefined) return false;
    void this.#code(thread, part, target);
    return true;
  }

  /** @returns data that the chain has not come to, if there may be any */
  #takeAhead(): Part | undefined {
    // What is being hashed is written before it, and needs a target too.
    const beforeIt = this.#partsInHash + this.#coldParts.length;
    if (this.#targets.length <= beforeIt) return undefined;
    while (this.#toHash.length < MAX_PARTS) {
      const part = this.#take();
      if (part === undefined) return undefined;
      if (!this.#isDigestAsked) this.#toHash.push(part);
      if (!part.place.isHole) return part;
    }
    return undefined;
  }

  #take(): Part | undefined {
    if (this.#parts.length >= MAX_PARTS) return undefined;
    const place = this.#peek();
    if (place === undefined) return undefined;
    this.#nextPlace = undefined;
    const coded = Promise.withResolvers<CodedPart>();
    // Whoever ends early waits for nothing more.
    coded.promise.catch(() => undefined);
    const plainBytes = place.lengthBytes;
    if (place.isHole) {
      const zeros = { plainBytes, crc32: crc32OfZeros(plainBytes), codedBytes: 0 };
      coded.resolve({ runs: [zeros], target: undefined });
    }
    const part: Part = {
      place,
      isFilled: false,
      room: undefined,
      hashedCrc32: undefined,
      codedCrc32: undefined,
      coded,
    };
    this.#parts.push(part);
    return part;
  }

  #peek(): Place | undefined {
    if (this.#areAllTaken) return undefined;
    this.#nextPlace ??= this.#setup.places.next().value;
    this.#areAllTaken = this.#nextPlace === undefined;
    return this.#nextPlace;
  }

  async #hash(thread: FileThread, part: Part, { isFirst }: { readonly isFirst: boolean }) {
    const { offsetBytes, lengthBytes } = part.place;
    if (isFirst) this.#partsInHash += 1;
    const { room, isFilled } = part;
    const task = { kind: 'hash', offsetBytes, lengthBytes, room, isFilled } as const;
    await this.#run(thread, task, offsetBytes, ({ elapsedMs, crc32 }) => {
      this.#hashing.add(elapsedMs, lengthBytes);
      part.hashedCrc32 = crc32;
      this.#check(part);
      if (isFirst) {
        this.#partsInHash -= 1;
        this.#toCode.push(part);
      }
      this.#hashed(lengthBytes);
    });
  }

  async #hashZeros(thread: FileThread): Promise<void> {
    const lengthBytes = Math.min(this.#zerosLeft, ZEROS_BYTES);
    this.#zerosLeft -= lengthBytes;
    await this.#run(thread, { kind: 'hash-zeros', lengthBytes }, 0, () => {
      this.#hashed(lengthBytes);
    });
  }

  async #askDigest(thread: FileThread): Promise<void> {
    this.#isDigestAsked = true;
    await this.#run(thread, { kind: 'digest' }, 0, ({ sha256 }) => {
      if (sha256 === undefined) throw new Error('the thread of a digest gave none');
      this.#sha256.resolve(sha256);
    });
  }

  async #code(thread: FileThread, part: Part, target: Buffer): Promise<void> {
    const { room } = part;
    const { offsetBytes, lengthBytes } = part.place;
    const task = { kind: 'code', offsetBytes, lengthBytes, room, target } as const;
    await this.#run(thread, task, offsetBytes, ({ elapsedMs, runs = [] }) => {
      this.#coding.add(elapsedMs, lengthBytes);
      this.#codedBytes += lengthBytes;
      if (room !== undefined) this.#rooms.push(room);
      else part.codedCrc32 = crc32OfRuns(runs);
      this.#check(part);
      part.coded.resolve({ runs, target });
    });
  }

  async #run(
    thread: FileThread,
    task: CodingTask,
    offsetBytes: number,
    take: (result: CodingResult) => void,
  ): Promise<void> {
    try {
      const result = await thread.run(task);
      if (result.problem !== undefined) throw this.#problem(result.problem, offsetBytes);
      take(result);
      this.#settle();
      this.fill();
    } catch (thrown) {
      this.fail(thrown);
    }
  }

  #problem(problem: string, offsetBytes: number): IngotError {
    const { path } = this.#setup;
    return problem === 'short'
      ? new IngotError('content-changed', `${path} became shorter while it was read`, { path })
      : new IngotError('source-unreadable', `${path} gave ${problem} at byte ${offsetBytes}`, {
          path,
          offsetBytes,
        });
  }

  #check({ hashedCrc32, codedCrc32, place: { offsetBytes } }: Part): void {
    if (hashedCrc32 === undefined || codedCrc32 === undefined || hashedCrc32 === codedCrc32) return;
    const { path } = this.#setup;
    throw new IngotError(
      'content-changed',
      `${path} changed at byte ${offsetBytes} or later while it was read`,
      { path, offsetBytes },
    );
  }

  #hashed(lengthBytes: number): void {
    this.#hashedBytes += lengthBytes;
    this.#setup.onHashed(this.#hashedBytes);
  }
}
