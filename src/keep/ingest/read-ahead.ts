import { KIB, MIB } from '../../base/index.ts';
import type { ByteReader, Extent } from '../../bytes/index.ts';

/** Reads that are long enough for any disk. */
const WINDOW_BYTES = 2 * MIB;

/** A gap that is cheaper to read than to jump over. */
const MAX_GAP_BYTES = 16 * KIB;

/** Reads under way while the bytes before them are worked on. */
const READS_AHEAD = 3;

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

/**
 * Reads extents in order, some reads ahead of whoever takes the bytes.
 *
 * @param extents ascending and merged
 * @returns the bytes of the extents, in buffers that never cross from one extent into the next;
 *   when it ends, also early, no read is under way any more
 * @throws what `reader.read` throws, or the signal's reason
 */
export async function* readAhead(
  reader: ByteReader,
  extents: Iterable<Extent>,
  signal: AbortSignal,
): AsyncGenerator<Buffer, void, undefined> {
  const windows = windowsOf(extents);
  const reads: { readonly window: Window; readonly bytes: Promise<Buffer> }[] = [];
  const startReads = (): void => {
    while (reads.length < READS_AHEAD) {
      const next = windows.next();
      if (next.done === true) return;
      const bytes = reader.read(next.value.offsetBytes, next.value.lengthBytes);
      // Whoever comes to it sees the failure; until then it must not count as unhandled.
      bytes.catch(() => undefined);
      reads.push({ window: next.value, bytes });
    }
  };
  try {
    for (startReads(); ; startReads()) {
      signal.throwIfAborted();
      const read = reads.shift();
      if (read === undefined) return;
      const bytes = await read.bytes;
      for (const part of read.window.parts) {
        const start = part.offsetBytes - read.window.offsetBytes;
        yield bytes.subarray(start, start + part.lengthBytes);
      }
    }
  } finally {
    await Promise.allSettled(reads.map((read) => read.bytes));
  }
}
