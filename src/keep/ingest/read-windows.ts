import { KIB, MIB } from '../../base/index.ts';
import type { Extent } from '../../bytes/index.ts';
import type { SnapshotPass } from '../../capture/index.ts';
import { type ChunkWorkers, LENT_BYTES } from '../chunks/chunk-workers.ts';
import { Window } from './window.ts';

/** Room at the start of each window for what the cutter still has of the one before. */
export const CARRY_BYTES = 640 * KIB;

/** Reads that are long enough for any disk. */
const READ_BYTES = MIB;

/** A gap that is cheaper to read than to jump over. */
const MAX_GAP_BYTES = 16 * KIB;

/** Reads under way in one window: disks with queues want more than one. */
const READS_AT_ONCE = 4;

/** Windows that are read while the one before is worked on. */
const WINDOWS_AHEAD = 2;

/** What O_DIRECT wants of offsets and addresses: they are placed so that they agree. */
const ALIGNMENT_BYTES = 4 * KIB;

/** One read, where its bytes go, and the parts of it that belong to extents. */
interface Read {
  readonly offsetBytes: number;
  lengthBytes: number;
  readonly startBytes: number;
  readonly parts: Extent[];
}

/** A window whose bytes have arrived. The holder is whoever took it. */
export interface ReadWindow {
  readonly window: Window;
  /** Where the first byte lies: all before it is room. */
  readonly startBytes: number;
  /** The bytes of extents, in order; none crosses from one extent into the next. */
  readonly parts: readonly Buffer[];
}

/** Groups extents, and pieces of long ones, into reads, and reads into windows. */
function* plannedWindows(extents: Iterable<Extent>): Generator<Read[], void, undefined> {
  let reads: Read[] = [];
  let endBytes = CARRY_BYTES;
  let read: Read | undefined;
  for (const extent of extents) {
    const end = extent.offsetBytes + extent.lengthBytes;
    for (let at = extent.offsetBytes; at < end; ) {
      const used = read === undefined ? 0 : at - read.offsetBytes;
      const gap = read === undefined ? 0 : used - read.lengthBytes;
      if (read === undefined || gap > MAX_GAP_BYTES || used >= READ_BYTES) {
        if (read !== undefined) endBytes = read.startBytes + read.lengthBytes;
        const startBytes = placeOf(at, endBytes);
        if (startBytes + READ_BYTES > LENT_BYTES) {
          yield reads;
          reads = [];
          endBytes = CARRY_BYTES;
        }
        read = { offsetBytes: at, lengthBytes: 0, startBytes: placeOf(at, endBytes), parts: [] };
        reads.push(read);
      }
      const before = at - read.offsetBytes;
      const lengthBytes = Math.min(end - at, READ_BYTES - before);
      read.parts.push({ offsetBytes: at, lengthBytes });
      read.lengthBytes = before + lengthBytes;
      at += lengthBytes;
    }
  }
  if (reads.length > 0) yield reads;
}

/** @returns the first place from `from` on that lies in its page as the offset does */
function placeOf(offsetBytes: number, from: number): number {
  const phase = (offsetBytes - from) % ALIGNMENT_BYTES;
  return from + ((phase + ALIGNMENT_BYTES) % ALIGNMENT_BYTES);
}

/**
 * Reads extents in order, some windows ahead of whoever takes them.
 *
 * @param extents ascending and merged
 * @returns windows, which the taker must release; when it ends, also early, no read is under way
 * @throws what `pass.readInto` throws, or the signal's reason
 */
export async function* readWindows(
  pass: SnapshotPass,
  extents: Iterable<Extent>,
  { workers, signal }: { readonly workers: ChunkWorkers; readonly signal: AbortSignal },
): AsyncGenerator<ReadWindow, void, undefined> {
  const planned = plannedWindows(extents);
  const ahead: Promise<ReadWindow>[] = [];
  const startAhead = (): void => {
    while (ahead.length < WINDOWS_AHEAD) {
      const next = planned.next();
      if (next.done === true) return;
      const window = readWindow(pass, next.value, workers);
      // Whoever comes to it sees the failure; until then it must not count as unhandled.
      window.catch(() => undefined);
      ahead.push(window);
    }
  };
  try {
    for (startAhead(); ; startAhead()) {
      signal.throwIfAborted();
      const next = ahead.shift();
      if (next === undefined) return;
      yield await next;
    }
  } finally {
    for (const result of await Promise.allSettled(ahead)) {
      if (result.status === 'fulfilled') result.value.window.release();
    }
  }
}

async function readWindow(
  pass: SnapshotPass,
  reads: readonly Read[],
  workers: ChunkWorkers,
): Promise<ReadWindow> {
  const window = new Window(await workers.lend(LENT_BYTES));
  try {
    await readAll(pass, reads, window.bytes);
    const parts = reads.flatMap((read) =>
      read.parts.map(({ offsetBytes, lengthBytes }) => {
        const start = read.startBytes + offsetBytes - read.offsetBytes;
        return window.bytes.subarray(start, start + lengthBytes);
      }),
    );
    return { window, startBytes: reads[0]?.startBytes ?? CARRY_BYTES, parts };
  } catch (thrown) {
    window.release();
    throw thrown;
  }
}

/** Fills the window; no read is under way any more when it settles. */
async function readAll(pass: SnapshotPass, reads: readonly Read[], bytes: Buffer): Promise<void> {
  const left = reads.values();
  const lane = async (): Promise<void> => {
    for (const { offsetBytes, startBytes, lengthBytes } of left) {
      await pass.readInto(offsetBytes, bytes.subarray(startBytes, startBytes + lengthBytes));
    }
  };
  const lanes = await Promise.allSettled(Array.from({ length: READS_AT_ONCE }, lane));
  const failed = lanes.find((result) => result.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
}
