import { createHash, type Hash } from 'node:crypto';
import { readSync } from 'node:fs';
import { errnoOf } from '../../../../base/index.ts';
import {
  combineCrc32,
  crc32OfZeros,
  MAX_CHUNK_BYTES,
  storedSegmentBytes,
} from '../../../../bytes/index.ts';
import type { SegmentEngine } from '../../../../keep/chunks/segment-engine.ts';

/** The longest segment of a chunk. */
const SEGMENT_BYTES = storedSegmentBytes(MAX_CHUNK_BYTES);

/** @returns the room that so many bytes need at most, coded chunk by chunk */
export function codedRoomBytes(plainBytes: number): number {
  return Math.ceil(plainBytes / MAX_CHUNK_BYTES) * SEGMENT_BYTES;
}

/** What a thread that codes a file is started with. */
export interface CodingThread {
  /** Open for reading as long as the thread lives. */
  readonly fd: number;
  readonly engineName: string;
}

/** Data of the file, at most as long as `room`. */
interface Span {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  /** Shared memory that keeps the bytes from hashing to coding; undefined where both read. */
  readonly room: Uint8Array | undefined;
}

/** Work for a thread. What is hashed goes to one thread, in the file's order. */
export type CodingTask =
  | ({
      readonly kind: 'hash' /** Whether its room has the bytes. */;
      readonly isFilled: boolean;
    } & Span)
  | { readonly kind: 'hash-zeros'; readonly lengthBytes: number }
  | { readonly kind: 'digest' }
  | ({ readonly kind: 'code'; readonly target: Uint8Array } & Span);

/** Segments one behind the other, or zeros, which are not coded. */
export interface CodedRun {
  readonly plainBytes: number;
  readonly crc32: number;
  /** 0 for zeros. */
  readonly codedBytes: number;
}

/** What became of a task. */
export interface CodingResult {
  readonly elapsedMs: number;
  /** Why the bytes could not be read: an errno, or `short` where the file ends before. */
  readonly problem?: string;
  /** Of what was hashed without a room. */
  readonly crc32?: number;
  readonly sha256?: Uint8Array;
  /** Of what was coded. */
  readonly runs?: readonly CodedRun[];
}

/** A file that gives no bytes. */
class ReadProblem extends Error {
  override readonly name = 'ReadProblem';
}

/** Reads, hashes and codes parts of one file on the thread that calls. */
export class CodingTasks {
  readonly #fd: number;
  readonly #engine: SegmentEngine;
  readonly #zeros = Buffer.alloc(MAX_CHUNK_BYTES);
  /** Stays in the processor's own cache from reading to hashing or coding. */
  readonly #block = Buffer.allocUnsafeSlow(MAX_CHUNK_BYTES);
  #hash: Hash | undefined;

  constructor(fd: number, engine: SegmentEngine) {
    this.#fd = fd;
    this.#engine = engine;
  }

  do(task: CodingTask): CodingResult {
    const startMs = performance.now();
    try {
      const result = this.#do(task);
      return { ...result, elapsedMs: performance.now() - startMs };
    } catch (thrown) {
      const problem = thrown instanceof ReadProblem ? thrown.message : errnoOf(thrown);
      if (problem === undefined) throw thrown;
      return { problem, elapsedMs: 0 };
    }
  }

  #do(task: CodingTask): Omit<CodingResult, 'elapsedMs'> {
    this.#hash ??= createHash('sha256');
    switch (task.kind) {
      case 'hash':
        return this.#hashSpan(task, this.#hash);
      case 'hash-zeros':
        this.#hashZeros(task.lengthBytes, this.#hash);
        return {};
      case 'digest':
        return { sha256: this.#hash.digest() };
      case 'code':
        return { runs: this.#code(task) };
    }
  }

  #hashSpan(span: Span & { readonly isFilled: boolean }, hash: Hash): { readonly crc32?: number } {
    const room = bufferOf(span.room);
    let crc32 = 0;
    for (let at = 0; at < span.lengthBytes; at += MAX_CHUNK_BYTES) {
      const length = Math.min(MAX_CHUNK_BYTES, span.lengthBytes - at);
      const plain = (room?.subarray(at) ?? this.#block).subarray(0, length);
      if (!span.isFilled) this.#read(plain, span.offsetBytes + at);
      hash.update(plain);
      // Whoever codes the same memory needs not be told apart.
      if (room === undefined) crc32 = combineCrc32(crc32, this.#engine.crc32(plain), length);
    }
    return room === undefined ? { crc32 } : {};
  }

  #hashZeros(lengthBytes: number, hash: Hash): void {
    for (let left = lengthBytes; left > 0; left -= MAX_CHUNK_BYTES) {
      hash.update(left < MAX_CHUNK_BYTES ? this.#zeros.subarray(0, left) : this.#zeros);
    }
  }

  #code({ offsetBytes, lengthBytes, room, target }: Span & { readonly target: Uint8Array }) {
    const filled = bufferOf(room);
    const coded = bufferOf(target);
    const runs: CodedRun[] = [];
    let codedAt = 0;
    for (let at = 0; at < lengthBytes; at += MAX_CHUNK_BYTES) {
      const length = Math.min(MAX_CHUNK_BYTES, lengthBytes - at);
      const plain = (filled?.subarray(at) ?? this.#block).subarray(0, length);
      if (filled === undefined) this.#read(plain, offsetBytes + at);
      const run = this.#codeChunk(plain, coded.subarray(codedAt, codedAt + SEGMENT_BYTES));
      codedAt += run.codedBytes;
      addRun(runs, run);
    }
    return runs;
  }

  #codeChunk(plain: Buffer, target: Buffer): CodedRun {
    const plainBytes = plain.length;
    if (plain.equals(this.#zeros.subarray(0, plainBytes))) {
      return { plainBytes, crc32: crc32OfZeros(plainBytes), codedBytes: 0 };
    }
    const crc32 = this.#engine.crc32(plain);
    return { plainBytes, crc32, codedBytes: this.#engine.encodeInto(plain, target) };
  }

  #read(target: Buffer, offsetBytes: number): void {
    for (let done = 0; done < target.length; ) {
      const count = readSync(this.#fd, target, done, target.length - done, offsetBytes + done);
      if (count === 0) throw new ReadProblem('short');
      done += count;
    }
  }
}

/** Joins what follows: the fewer runs, the less there is to do for each. */
function addRun(runs: CodedRun[], run: CodedRun): void {
  const last = runs.at(-1);
  if (last === undefined || (last.codedBytes === 0) !== (run.codedBytes === 0)) {
    runs.push(run);
    return;
  }
  runs[runs.length - 1] = {
    plainBytes: last.plainBytes + run.plainBytes,
    crc32: combineCrc32(last.crc32, run.crc32, run.plainBytes),
    codedBytes: last.codedBytes + run.codedBytes,
  };
}

/** Messages between threads carry plain arrays. */
function bufferOf(bytes: Uint8Array): Buffer;
function bufferOf(bytes: Uint8Array | undefined): Buffer | undefined;
function bufferOf(bytes: Uint8Array | undefined): Buffer | undefined {
  return bytes && Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
