import { BufferPool } from './buffer-pool.ts';
import type { LentBytes } from './disk-reader.ts';
import type { ReadPart } from './read-ahead.ts';

/** Blocks that are put together and waiting for their turn; more only cost memory. */
const MAX_IDLE_ROOMS = 16;

/** Blocks of an image as it will be, one behind the other: zeros where nothing is allocated. */
export interface BlockPiece extends LentBytes {
  readonly offsetBytes: number;
}

/** A block that parts are copied into. */
interface Room {
  readonly offsetBytes: number;
  readonly whole: Buffer;
  readonly bytes: Buffer;
}

/** Fills blocks with the parts that lie in them. */
class Rooms {
  readonly #blockBytes: number;
  readonly #sizeBytes: number;
  readonly #pool: BufferPool;
  #room: Room | undefined;

  constructor({ blockBytes, sizeBytes }: BlockSizes) {
    this.#blockBytes = blockBytes;
    this.#sizeBytes = sizeBytes;
    this.#pool = new BufferPool(() => Buffer.allocUnsafeSlow(blockBytes), MAX_IDLE_ROOMS);
  }

  startOf(offsetBytes: number): number {
    return offsetBytes - (offsetBytes % this.#blockBytes);
  }

  /** The end of the last whole block before an end; the image's last block may be short. */
  lastWholeEnd(endBytes: number): number {
    return endBytes === this.#sizeBytes ? endBytes : this.startOf(endBytes);
  }

  /** Whether bytes from here on begin inside a block, or one that has bytes already. */
  mustJoin(offsetBytes: number): boolean {
    return this.#room !== undefined || offsetBytes !== this.startOf(offsetBytes);
  }

  /** @returns how many bytes found a place in the block that they begin in */
  add(offsetBytes: number, bytes: Buffer): number {
    this.#room ??= this.#open(this.startOf(offsetBytes));
    const room = this.#room;
    return bytes.copy(room.bytes, offsetBytes - room.offsetBytes);
  }

  /** Hands out the block that was begun unless it is the one at this offset. */
  takeBefore(offsetBytes: number): BlockPiece | undefined {
    const room = this.#room;
    if (room === undefined || offsetBytes < room.offsetBytes + room.bytes.length) return undefined;
    this.#room = undefined;
    return {
      offsetBytes: room.offsetBytes,
      bytes: room.bytes,
      release: () => this.#pool.giveBack(room.whole),
    };
  }

  #open(offsetBytes: number): Room {
    const whole = this.#pool.take();
    const lengthBytes = Math.min(this.#blockBytes, this.#sizeBytes - offsetBytes);
    return { offsetBytes, whole, bytes: whole.subarray(0, lengthBytes).fill(0) };
  }
}

interface BlockSizes {
  readonly blockBytes: number;
  readonly sizeBytes: number;
}

/**
 * Puts the parts of an image together to whole blocks, so that a gap inside a block is part of it.
 *
 * Blocks that lie in one part are handed through without a copy.
 *
 * @param parts ascending, without overlaps
 * @returns pieces that begin and end at multiples of the block size, or at the image's end; blocks
 *   without any part are left out. Each piece must be released.
 */
export async function* blockPieces(
  parts: AsyncIterable<ReadPart>,
  sizes: BlockSizes,
): AsyncGenerator<BlockPiece, void, undefined> {
  const rooms = new Rooms(sizes);
  for await (const { offsetBytes, bytes, release } of parts) {
    const end = offsetBytes + bytes.length;
    const before = rooms.takeBefore(offsetBytes);
    if (before !== undefined) yield before;
    let at = offsetBytes;
    if (rooms.mustJoin(at)) {
      at += rooms.add(at, bytes);
      const joined = rooms.takeBefore(at);
      if (joined !== undefined) yield joined;
    }
    const wholeEnd = Math.max(at, rooms.lastWholeEnd(end));
    if (wholeEnd < end && at <= wholeEnd)
      rooms.add(wholeEnd, bytes.subarray(wholeEnd - offsetBytes));
    if (wholeEnd === at) {
      release();
    } else {
      yield {
        offsetBytes: at,
        bytes: bytes.subarray(at - offsetBytes, wholeEnd - offsetBytes),
        release,
      };
    }
  }
  const last = rooms.takeBefore(sizes.sizeBytes);
  if (last !== undefined) yield last;
}
