import { combineCrc32 } from '../../../../bytes/index.ts';
import type { CodedRun } from './coding-tasks.ts';
import type { Place } from './file-places.ts';

/** A place of the file on its way. */
export interface Part {
  readonly place: Place;
  /** Whether its room has its bytes already. */
  isFilled: boolean;
  /** Keeps its bytes from hashing to coding. */
  room: Buffer | undefined;
  /** What each found who read by himself; the same, or the file has changed. */
  hashedCrc32: number | undefined;
  codedCrc32: number | undefined;
  readonly coded: PromiseWithResolvers<CodedPart>;
}

/** A part that may be written; whoever has it gives `target` back. */
export interface CodedPart {
  readonly runs: readonly CodedRun[];
  readonly target: Buffer | undefined;
}

/** How long work takes here. */
export class Pace {
  #elapsedMs = 0;
  #bytes = 0;

  add(elapsedMs: number, bytes: number): void {
    this.#elapsedMs += elapsedMs;
    this.#bytes += bytes;
  }

  /** @returns 0 while nothing was done */
  msFor(bytes: number): number {
    return this.#bytes === 0 ? 0 : (this.#elapsedMs / this.#bytes) * bytes;
  }
}

/** Memory in pieces of one size. */
export function roomsIn(memory: Buffer, lengthBytes: number): Buffer[] {
  const count = memory.byteLength / lengthBytes;
  return Array.from({ length: count }, (_, i) =>
    memory.subarray(i * lengthBytes, (i + 1) * lengthBytes),
  );
}

/** @returns the CRC-32 of what the runs hold together */
export function crc32OfRuns(runs: readonly CodedRun[]): number {
  return runs.reduce((sum, run) => combineCrc32(sum, run.crc32, run.plainBytes), 0);
}
