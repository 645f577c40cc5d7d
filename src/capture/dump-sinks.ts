import { combineCrc32, crc32OfZeros, releaseMemory } from '../bytes/index.ts';
import type { DumpTarget, WriteWatch } from './dump-target.ts';
import type { StreamCompressor } from './stream-compressor.ts';
import { isZero, ZEROS } from './zero-bytes.ts';

/** Zero runs of this length are holes in a sparse target. */
export const HOLE_BYTES = 64 * 1024;
/** Coded zero pieces that are written at once. */
const ZERO_BATCH = 64;

/** Takes an image's plain bytes in order and brings them to the target in some coding. */
export interface DumpSink {
  /** @param release called when nobody reads the bytes any more */
  data(plain: Buffer, release: () => void): Promise<void>;
  zeros(lengthBytes: number): Promise<void>;
  end(): Promise<void>;
}

/** The exact bytes; zero runs become holes where the target can have them. */
export function rawSink(target: DumpTarget, watch: WriteWatch): DumpSink {
  const writeSparse = async (plain: Buffer): Promise<void> => {
    let pending = 0;
    for (let at = 0; at < plain.length; at += HOLE_BYTES) {
      const piece = plain.subarray(at, at + HOLE_BYTES);
      if (!isZero(piece)) continue;
      if (at > pending) await target.write(plain.subarray(pending, at), watch);
      await target.skip(piece.length);
      pending = at + piece.length;
    }
    if (pending < plain.length) await target.write(plain.subarray(pending), watch);
  };
  return {
    data: async (plain, release) => {
      if (target.isSparse) await writeSparse(plain);
      else await target.write(plain, watch);
      release();
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

/** Coded bytes on their way. */
interface CodedItem {
  readonly coded: Promise<Uint8Array>;
  /** How often it is written; 0: once, and its memory is given back. */
  readonly repeats: number;
  /** Called when the plain bytes are not read any more. */
  readonly release?: (() => void) | undefined;
}

/** Compresses pieces in parallel and writes them in order, with a bounded number in flight. */
export class CompressedSink implements DumpSink {
  readonly #compressor: StreamCompressor;
  readonly #target: DumpTarget;
  readonly #watch: WriteWatch;
  readonly #queue: CodedItem[] = [];
  #zeroPiece: Promise<Uint8Array> | undefined;
  #zeroBatch: Buffer | undefined;
  #crc32 = 0;
  #lengthBytes = 0;

  constructor(compressor: StreamCompressor, target: DumpTarget, watch: WriteWatch) {
    this.#compressor = compressor;
    this.#target = target;
    this.#watch = watch;
  }

  async data(plain: Buffer, release: () => void): Promise<void> {
    const { pieceBytes } = this.#compressor;
    for (let at = 0; at < plain.length; at += pieceBytes) {
      const piece = plain.subarray(at, at + pieceBytes);
      const isLast = at + pieceBytes >= plain.length;
      this.#count(this.#compressor.crc32(piece), piece.length);
      // Pieces are written in order, so with the last one all of them are coded.
      await this.#push(this.#compressor.encode(piece), 0, isLast ? release : undefined);
    }
  }

  async zeros(lengthBytes: number): Promise<void> {
    const { pieceBytes } = this.#compressor;
    this.#count(crc32OfZeros(lengthBytes), lengthBytes);
    const repeats = Math.floor(lengthBytes / pieceBytes);
    if (repeats > 0) {
      this.#zeroPiece ??= this.#compressor.encode(Buffer.alloc(pieceBytes));
      await this.#push(this.#zeroPiece, repeats);
    }
    const rest = lengthBytes % pieceBytes;
    if (rest > 0) await this.#push(this.#compressor.encode(Buffer.alloc(rest)), 0);
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

  async #push(coded: Promise<Uint8Array>, repeats: number, release?: () => void): Promise<void> {
    // Whoever comes to it sees the failure; until then it must not count as unhandled.
    coded.catch(() => undefined);
    this.#queue.push({ coded, repeats, release });
    await this.#drain(this.#compressor.piecesInFlight);
  }

  async #drain(downTo: number): Promise<void> {
    while (this.#queue.length > downTo) {
      const item = this.#queue.shift();
      if (item === undefined) return;
      const coded = await item.coded;
      item.release?.();
      if (item.repeats > 0) {
        await this.#repeat(coded, item.repeats);
      } else {
        await this.#target.write(coded, this.#watch);
        releaseMemory(coded);
      }
    }
  }

  async #repeat(one: Uint8Array, times: number): Promise<void> {
    this.#zeroBatch ??= Buffer.concat(new Array<Uint8Array>(ZERO_BATCH).fill(one));
    for (let left = times; left > 0; left -= ZERO_BATCH) {
      const lengthBytes = Math.min(left, ZERO_BATCH) * one.length;
      await this.#target.write(this.#zeroBatch.subarray(0, lengthBytes), this.#watch);
    }
  }
}
