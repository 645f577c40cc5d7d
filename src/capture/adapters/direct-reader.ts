import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { ALIGNMENT_BYTES, alignedMemory, errnoOf, IngotError, MIB } from '../../base/index.ts';
import { BufferPool } from '../buffer-pool.ts';
import type { DiskReader } from '../disk-reader.ts';
import {
  addressOf,
  blockDeviceSize,
  cacheBlockSize,
  flushBlockDeviceCache,
  logicalBlockSize,
} from './libc.ts';

/** Pages of the cache are dropped as a whole, or not at all. */
const PAGE_BYTES = 4096;
/** Memory that reads go through whose own does not suit. */
const ROOM_BYTES = MIB;
/** Such reads at once. */
const MAX_IDLE_ROOMS = 4;
/** What one read may ask for; larger ones are a mistake of the caller. */
const MAX_READ_BYTES = 64 * 1024 * 1024;

function alignedBuffer(lengthBytes: number): Buffer {
  return alignedMemory(lengthBytes, addressOf, (length) => Buffer.allocUnsafeSlow(length));
}

async function readFully(
  handle: FileHandle,
  target: Buffer,
  { offsetBytes, neededBytes }: { readonly offsetBytes: number; readonly neededBytes: number },
): Promise<void> {
  let done = 0;
  while (done < neededBytes) {
    const { bytesRead } = await handle.read(target, done, target.length - done, offsetBytes + done);
    if (bytesRead === 0) {
      throw new IngotError(
        'source-truncated',
        `the source ended at ${offsetBytes + done} of ${offsetBytes + neededBytes} bytes`,
      );
    }
    done += bytesRead;
  }
}

/** A block device through O_DIRECT, or through a cache that is emptied where that is refused. */
class DirectReader implements DiskReader {
  readonly sizeBytes: number;
  readonly sectorBytes: number;
  readonly #path: string;
  readonly #direct: FileHandle | undefined;
  readonly #buffered: FileHandle;
  readonly #pool = new BufferPool(() => alignedBuffer(ROOM_BYTES), MAX_IDLE_ROOMS);

  constructor(setup: {
    readonly path: string;
    readonly sizeBytes: number;
    readonly direct: FileHandle | undefined;
    readonly buffered: FileHandle;
  }) {
    this.sizeBytes = setup.sizeBytes;
    this.sectorBytes = logicalBlockSize(setup.buffered.fd);
    this.#path = setup.path;
    this.#direct = setup.direct;
    this.#buffered = setup.buffered;
  }

  async read(offsetBytes: number, lengthBytes: number): Promise<Buffer> {
    this.#checkRange(offsetBytes, lengthBytes);
    if (lengthBytes === 0) return Buffer.alloc(0);
    const span = this.#alignedSpan(offsetBytes, lengthBytes);
    const room = alignedBuffer(span.to - span.from);
    await this.#fill(room, span.from);
    return room.subarray(offsetBytes - span.from, offsetBytes - span.from + lengthBytes);
  }

  allocate(lengthBytes: number): Buffer {
    return alignedBuffer(lengthBytes);
  }

  async readInto(offsetBytes: number, target: Buffer): Promise<void> {
    const lengthBytes = target.byteLength;
    this.#checkRange(offsetBytes, lengthBytes);
    const isAligned =
      offsetBytes % ALIGNMENT_BYTES === 0 &&
      lengthBytes % ALIGNMENT_BYTES === 0 &&
      addressOf(target) % BigInt(ALIGNMENT_BYTES) === 0n;
    if (isAligned) await this.#fill(target, offsetBytes);
    else await this.#readThrough(offsetBytes, target);
  }

  /** Fills memory that direct reads do not take. */
  async #readThrough(offsetBytes: number, target: Buffer): Promise<void> {
    const room = this.#pool.take();
    try {
      for (let done = 0; done < target.byteLength; ) {
        const at = offsetBytes + done;
        const span = this.#alignedSpan(at, target.byteLength - done);
        const to = Math.min(span.to, span.from + ROOM_BYTES);
        await this.#fill(room.subarray(0, to - span.from), span.from);
        done += room.copy(target, done, at - span.from, to - span.from);
      }
    } finally {
      this.#pool.giveBack(room);
    }
  }

  #alignedSpan(offsetBytes: number, lengthBytes: number): { from: number; to: number } {
    return {
      from: offsetBytes - (offsetBytes % ALIGNMENT_BYTES),
      to: Math.min(
        Math.ceil((offsetBytes + lengthBytes) / ALIGNMENT_BYTES) * ALIGNMENT_BYTES,
        this.sizeBytes,
      ),
    };
  }

  #checkRange(offsetBytes: number, lengthBytes: number): void {
    const end = offsetBytes + lengthBytes;
    if (!(offsetBytes >= 0 && lengthBytes >= 0 && end <= this.sizeBytes)) {
      throw new IngotError(
        'source-truncated',
        `bytes ${offsetBytes} to ${end} are outside ${this.#path} of ${this.sizeBytes} bytes`,
      );
    }
    if (lengthBytes > MAX_READ_BYTES) throw new RangeError(`one read of ${lengthBytes} bytes`);
  }

  async #fill(room: Buffer, offsetBytes: number): Promise<void> {
    try {
      await this.#readAll(room, offsetBytes);
    } catch (thrown) {
      if (thrown instanceof IngotError) throw thrown;
      throw new IngotError(
        'source-unreadable',
        `${this.#path} gave ${errnoOf(thrown) ?? 'an error'} at byte ${offsetBytes}`,
        { offsetBytes, lengthBytes: room.byteLength },
        { cause: thrown },
      );
    }
  }

  async #readAll(room: Buffer, offsetBytes: number): Promise<void> {
    const span = { offsetBytes, neededBytes: room.length };
    if (this.#direct !== undefined) {
      try {
        await readFully(this.#direct, room, span);
        return;
      } catch (thrown) {
        // A device's last bytes may be no multiple of its block size: they go through the cache,
        // which is emptied first.
        if (errnoOf(thrown) !== 'EINVAL') throw thrown;
        this.#emptyCache();
      }
    }
    await readFully(this.#buffered, room, span);
  }

  async dropStale(): Promise<void> {
    // With O_DIRECT the kernel writes dirty pages of the range before each read by itself.
    if (this.#direct === undefined) this.#emptyCache();
  }

  /** Refuses where pages stay in the cache because metadata beside the data is in use. */
  #emptyCache(): void {
    const blockBytes = cacheBlockSize(this.#buffered.fd);
    if (blockBytes < PAGE_BYTES) {
      throw new IngotError(
        'source-unsupported',
        `${this.#path} refuses direct reads, and its cache is not to be trusted with blocks of ${blockBytes} bytes`,
        { blockBytes },
      );
    }
    flushBlockDeviceCache(this.#buffered.fd);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#direct?.close();
    await this.#buffered.close();
  }
}

async function openDirect(path: string): Promise<FileHandle | undefined> {
  let handle: FileHandle;
  try {
    handle = await open(path, constants.O_RDONLY | constants.O_DIRECT);
  } catch (thrown) {
    if (errnoOf(thrown) === 'EINVAL') return undefined;
    throw thrown;
  }
  try {
    // Some drivers accept the flag and refuse the first read.
    await handle.read(alignedBuffer(ALIGNMENT_BYTES), 0, ALIGNMENT_BYTES, 0);
    return handle;
  } catch (thrown) {
    await handle.close();
    if (errnoOf(thrown) === 'EINVAL') return undefined;
    throw thrown;
  }
}

/**
 * Opens a block device for reads that bypass the page cache.
 *
 * @param options `direct: false` takes the other way at once: a cache that is emptied at every pass
 * @throws IngotError `source-unreadable`, `not-root`
 */
export async function openDirectReader(
  path: string,
  { direct: wantsDirect = true }: { readonly direct?: boolean } = {},
): Promise<DiskReader> {
  await using undo = new AsyncDisposableStack();
  try {
    const buffered = undo.use(await open(path, constants.O_RDONLY));
    const direct = wantsDirect ? await openDirect(path) : undefined;
    if (direct !== undefined) undo.use(direct);
    const sizeBytes = blockDeviceSize(buffered.fd);
    undo.move();
    return new DirectReader({ path, sizeBytes, direct, buffered });
  } catch (thrown) {
    const errno = errnoOf(thrown) ?? 'an error';
    throw new IngotError(
      errno === 'EACCES' || errno === 'EPERM' ? 'not-root' : 'source-unreadable',
      `${path} cannot be read: ${errno}`,
      { path },
      { cause: thrown },
    );
  }
}
