import { constants } from 'node:fs';
import { type FileHandle, open, statfs } from 'node:fs/promises';
import { ALIGNMENT_BYTES, alignedMemory, copyBytes, errnoOf, MIB } from '../../base/index.ts';
import { addressOf } from './libc.ts';

/** One write, where nobody says otherwise: long enough for any disk. */
const ROOM_BYTES = 4 * MIB;

/**
 * Filesystems where bytes past the page cache are stored as all others are: ext2 to ext4, XFS.
 * Elsewhere (btrfs, bcachefs) such bytes are not compressed.
 *
 * @see linux/magic.h
 */
const SUITABLE = new Set([0xef53, 0x58465342]);

/** An open file that is written at any place. */
export interface BlockFile {
  write(
    bytes: Buffer,
    start: number,
    lengthBytes: number,
    offsetBytes: number,
  ): Promise<{ readonly bytesWritten: number }>;
}

/** How a writer uses the disk. */
export interface WriteAhead {
  /** Writes on their way to the disk while the next is filled. */
  readonly writesAhead?: number;
  /** Length of one write, whole blocks. */
  readonly roomBytes?: number;
}

/** Tells whether the filesystem of an open file takes writes past the page cache as all others. */
export async function takesDirectWrites(path: string): Promise<boolean> {
  const { type } = await statfs(path);
  return SUITABLE.has(type);
}

/**
 * Opens a file once more, past the page cache.
 *
 * @returns undefined where the file's filesystem does not suit
 */
export async function openPastCache({ fd }: FileHandle): Promise<FileHandle | undefined> {
  const path = `/proc/self/fd/${fd}`;
  if (!(await takesDirectWrites(path))) return undefined;
  try {
    return await open(path, constants.O_WRONLY | constants.O_DIRECT);
  } catch (thrown) {
    if (errnoOf(thrown) === 'EINVAL') return undefined;
    throw thrown;
  }
}

/** Bytes that lie one behind the other in a file, and wait for their write. */
interface Piece {
  /** What is in `room` begins as far behind its start as the file's offset behind a whole block. */
  readonly room: Buffer;
  readonly offsetBytes: number;
  lengthBytes: number;
}

/**
 * Writes a file past the page cache: what is written once and not read again soon costs no copy
 * into fresh pages, and nothing is left to write when the file is synced.
 *
 * Bytes may be written anywhere; what follows what came before goes out in long pieces, a few of them
 * under way while the next is filled. The ends of a run that fill no block go through the cache.
 */
export class DirectWriter implements AsyncDisposable {
  readonly #direct: BlockFile;
  readonly #buffered: BlockFile;
  /** Rooms that nothing is in. */
  readonly #idle: Buffer[] = [];
  #isRefused = false;
  #piece: Piece | undefined;
  /** Each settles when its piece is written, the oldest first. */
  readonly #writing: Promise<void>[] = [];
  readonly #writesAhead: number;
  readonly #roomBytes: number;
  readonly #close: () => Promise<void>;

  private constructor(
    files: { readonly direct: BlockFile; readonly buffered: BlockFile },
    { writesAhead = 1, roomBytes = ROOM_BYTES }: WriteAhead,
    close: () => Promise<void>,
  ) {
    this.#direct = files.direct;
    this.#buffered = files.buffered;
    this.#writesAhead = writesAhead;
    this.#roomBytes = roomBytes;
    this.#close = close;
  }

  /**
   * @param buffered the file, open for writing; its owner closes it
   * @returns undefined where the file's filesystem does not suit
   */
  static async open(
    buffered: FileHandle,
    ahead: WriteAhead = {},
  ): Promise<DirectWriter | undefined> {
    const direct = await openPastCache(buffered);
    if (direct === undefined) return undefined;
    return new DirectWriter({ direct, buffered }, ahead, () => direct.close());
  }

  /**
   * Writes to a file that is open already, past the page cache and through it; its owner closes both.
   */
  static over(
    files: { readonly direct: BlockFile; readonly buffered: BlockFile },
    ahead: WriteAhead = {},
  ): DirectWriter {
    return new DirectWriter(files, ahead, () => Promise.resolve());
  }

  /**
   * Takes bytes; the caller may use their memory again when this returns.
   *
   * @throws what a write threw, also one of earlier bytes
   */
  async write(bytes: Uint8Array, offsetBytes: number): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      done += await this.#take(bytes.subarray(done), offsetBytes + done);
    }
  }

  /** Waits until the file has all that was taken; only a sync makes it durable. */
  async flush(): Promise<void> {
    await this.#send();
    while (this.#writing.length > 0) await this.#waitForOldest();
  }

  /** Drops what was taken and not written yet. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#piece = undefined;
    await Promise.allSettled(this.#writing);
    await this.#close();
  }

  /** @returns how many of the bytes found room */
  async #take(bytes: Uint8Array, offsetBytes: number): Promise<number> {
    const before = this.#piece;
    if (before !== undefined && before.offsetBytes + before.lengthBytes !== offsetBytes) {
      await this.#send();
    }
    this.#piece ??= { room: this.#takeRoom(), offsetBytes, lengthBytes: 0 };
    const piece = this.#piece;
    const at = (piece.offsetBytes % ALIGNMENT_BYTES) + piece.lengthBytes;
    const taken = bytes.subarray(0, this.#roomBytes - at);
    copyBytes(piece.room, at, taken);
    piece.lengthBytes += taken.length;
    if (at + taken.length === this.#roomBytes) await this.#send();
    return taken.length;
  }

  /** Begins to write the piece that is being filled, once there are not too many before it. */
  async #send(): Promise<void> {
    const piece = this.#piece;
    this.#piece = undefined;
    if (piece === undefined) return;
    while (this.#writing.length >= this.#writesAhead) await this.#waitForOldest();
    const written = this.#writePiece(piece).finally(() => this.#idle.push(piece.room));
    // Whoever waits for it hears of it.
    written.catch(() => undefined);
    this.#writing.push(written);
  }

  /** A piece that could not be written stays: whoever waits later hears of it too. */
  async #waitForOldest(): Promise<void> {
    await this.#writing[0];
    void this.#writing.shift();
  }

  #takeRoom(): Buffer {
    return (
      this.#idle.pop() ??
      alignedMemory(this.#roomBytes, addressOf, (length) => Buffer.allocUnsafeSlow(length))
    );
  }

  async #writePiece({ room, offsetBytes, lengthBytes }: Piece): Promise<void> {
    const start = offsetBytes % ALIGNMENT_BYTES;
    const end = start + lengthBytes;
    for (let at = start; at < end; ) {
      const wholeEnd = end - (end % ALIGNMENT_BYTES);
      const isWhole = at % ALIGNMENT_BYTES === 0 && at < wholeEnd && !this.#isRefused;
      const nextBlock = at - (at % ALIGNMENT_BYTES) + ALIGNMENT_BYTES;
      const to = isWhole ? wholeEnd : this.#isRefused ? end : Math.min(nextBlock, end);
      at += await this.#writeAt(room.subarray(at, to), {
        offsetBytes: offsetBytes - start + at,
        isWhole,
      });
    }
  }

  /** @returns how many bytes were written: none where the file takes no direct writes after all */
  async #writeAt(
    bytes: Buffer,
    { offsetBytes, isWhole }: { readonly offsetBytes: number; readonly isWhole: boolean },
  ): Promise<number> {
    const handle = isWhole ? this.#direct : this.#buffered;
    try {
      const { bytesWritten } = await handle.write(bytes, 0, bytes.length, offsetBytes);
      return bytesWritten;
    } catch (thrown) {
      if (!isWhole || errnoOf(thrown) !== 'EINVAL') throw thrown;
      this.#isRefused = true;
      return 0;
    }
  }
}
