import { ALIGNMENT_BYTES, KIB, MIB } from '../base/index.ts';
import type { Extent } from '../bytes/index.ts';
import { BufferPool } from './buffer-pool.ts';
import type { FillingReader, LentBytes } from './disk-reader.ts';

/** Reads that are long enough for any disk. */
const WINDOW_BYTES = 2 * MIB;

/** A gap that is cheaper to read than to jump over. */
const MAX_GAP_BYTES = 16 * KIB;

/** Reads under way while the bytes before them are worked on. */
const READS_AHEAD = 3;

/** A window whose ends are not aligned. */
const ROOM_BYTES = WINDOW_BYTES + 2 * ALIGNMENT_BYTES;

/** Reads ahead, and reads that are worked on. */
const MAX_IDLE_ROOMS = 8;

/** Bytes of an extent, or of a part of one. */
export interface ReadPart extends LentBytes {
  readonly offsetBytes: number;
}

/** How {@link readAhead} reads. */
export interface ReadAheadOptions {
  readonly signal: AbortSignal;
  /** Called when the last read has come, before it is handed out. */
  readonly onAllRead?: () => Promise<void>;
}

/** One read, and the parts of it that belong to extents. */
interface Window {
  readonly offsetBytes: number;
  lengthBytes: number;
  readonly parts: Extent[];
}

/** Groups extents, and pieces of long ones, into reads. */
function* windowsOf(extents: Iterable<Extent>): Generator<Window, void, undefined> {
  let window: Window | undefined;
  for (const extent of extents) {
    const end = extent.offsetBytes + extent.lengthBytes;
    for (let at = extent.offsetBytes; at < end; ) {
      if (window !== undefined) {
        const used = at - window.offsetBytes;
        const gap = used - window.lengthBytes;
        if (gap > MAX_GAP_BYTES || used >= WINDOW_BYTES) {
          yield window;
          window = undefined;
        }
      }
      window ??= { offsetBytes: at, lengthBytes: 0, parts: [] };
      const used = at - window.offsetBytes;
      const lengthBytes = Math.min(end - at, WINDOW_BYTES - used);
      window.parts.push({ offsetBytes: at, lengthBytes });
      window.lengthBytes = used + lengthBytes;
      at += lengthBytes;
    }
  }
  if (window !== undefined) yield window;
}

/** Takes the parts of a window out of its bytes; the last one that is released releases all. */
function* partsOf(window: Window, { bytes, release }: LentBytes): Generator<ReadPart> {
  let held = window.parts.length;
  for (const { offsetBytes, lengthBytes } of window.parts) {
    const start = offsetBytes - window.offsetBytes;
    yield {
      offsetBytes,
      bytes: bytes.subarray(start, start + lengthBytes),
      release: () => {
        held -= 1;
        if (held === 0) release();
      },
    };
  }
}

/** Reads windows into memory that is used again and again. */
class WindowReader {
  readonly #reader: FillingReader;
  readonly #rooms: BufferPool;

  constructor(reader: FillingReader) {
    this.#reader = reader;
    this.#rooms = new BufferPool(
      () => reader.allocate?.(ROOM_BYTES) ?? Buffer.allocUnsafeSlow(ROOM_BYTES),
      MAX_IDLE_ROOMS,
    );
  }

  async read({ offsetBytes, lengthBytes }: Window): Promise<LentBytes> {
    const lent = await this.#reader.lend?.(offsetBytes, lengthBytes);
    if (lent !== undefined) return lent;
    // Whole blocks, so that direct reads need no copy.
    const start = offsetBytes - (offsetBytes % ALIGNMENT_BYTES);
    const blocks = Math.ceil((offsetBytes + lengthBytes) / ALIGNMENT_BYTES);
    const end = Math.min(blocks * ALIGNMENT_BYTES, this.#reader.sizeBytes);
    const room = this.#rooms.take();
    try {
      await this.#reader.readInto(start, room.subarray(0, end - start));
    } catch (thrown) {
      this.#rooms.giveBack(room);
      throw thrown;
    }
    return {
      bytes: room.subarray(offsetBytes - start, offsetBytes - start + lengthBytes),
      release: () => this.#rooms.giveBack(room),
    };
  }
}

/**
 * Reads extents in order, some reads ahead of whoever takes the bytes.
 *
 * @param extents ascending and merged
 * @returns the bytes of the extents, to be released once nobody has a view into them, in buffers that never cross from one extent into the next;
 *   when it ends, also early, no read is under way any more
 * @throws what `reader.read` throws, or the signal's reason
 */
export async function* readAhead(
  reader: FillingReader,
  extents: Iterable<Extent>,
  { signal, onAllRead }: ReadAheadOptions,
): AsyncGenerator<ReadPart, void, undefined> {
  const windows = windowsOf(extents);
  const rooms = new WindowReader(reader);
  const reads: { readonly window: Window; readonly read: Promise<LentBytes> }[] = [];
  let isDone = false;
  const startReads = (): void => {
    while (!isDone && reads.length < READS_AHEAD) {
      const next = windows.next();
      if (next.done === true) {
        isDone = true;
        return;
      }
      const read = rooms.read(next.value);
      // Whoever comes to it sees the failure; until then it must not count as unhandled.
      read.catch(() => undefined);
      reads.push({ window: next.value, read });
    }
  };
  try {
    for (startReads(); ; startReads()) {
      signal.throwIfAborted();
      const first = reads.shift();
      if (first === undefined) return;
      const lent = await first.read;
      if (isDone && reads.length === 0) await onAllRead?.();
      yield* partsOf(first.window, lent);
    }
  } finally {
    await Promise.allSettled(reads.map(({ read }) => read));
  }
}
