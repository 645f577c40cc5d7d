import { IngotError, KIB, MIB } from '../base/index.ts';
import type { Extent } from '../bytes/index.ts';
import type { SnapshotPass, SnapshotSource } from '../capture/index.ts';
import type { ArtifactPayload } from './artifact-data.ts';
import { makeZeros } from './known-zeros.ts';
import { inOrder } from './restore/in-order.ts';
import { ReusedBuffers } from './reused-buffers.ts';

const READ_BYTES = MIB;
/** Reads under way: a device behind ssh answers late. */
const READS_AT_ONCE = 4;

/** A gap that is cheaper to read than to jump over; what was read of it becomes zeros. */
const MAX_GAP_BYTES = 16 * KIB;

/** A stretch of the disk, and the extents in it: all else of it is zeros. */
interface Window {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly parts: readonly Extent[];
}

/** Cuts the disk into windows of equal length; only the last may be shorter. */
async function* windowsOf(pass: SnapshotPass, sizeBytes: number): AsyncGenerator<Window> {
  const extents = pass.extents[Symbol.iterator]();
  let extent = extents.next();
  for (let at = 0; at < sizeBytes; at += READ_BYTES) {
    const end = Math.min(at + READ_BYTES, sizeBytes);
    const parts: Extent[] = [];
    while (extent.done !== true && extent.value.offsetBytes < end) {
      const { offsetBytes, lengthBytes } = extent.value;
      const extentEnd = offsetBytes + lengthBytes;
      const from = Math.max(offsetBytes, at);
      parts.push({ offsetBytes: from, lengthBytes: Math.min(extentEnd, end) - from });
      if (extentEnd > end) break;
      extent = extents.next();
    }
    yield { offsetBytes: at, lengthBytes: end - at, parts };
  }
}

/** Joins extents over small gaps. */
function joined(parts: readonly Extent[]): Extent[] {
  const reads: Extent[] = [];
  for (const part of parts) {
    const last = reads.at(-1);
    const lastEnd = last === undefined ? 0 : last.offsetBytes + last.lengthBytes;
    if (last === undefined || part.offsetBytes - lastEnd > MAX_GAP_BYTES) {
      reads.push(part);
      continue;
    }
    const lengthBytes = part.offsetBytes + part.lengthBytes - last.offsetBytes;
    reads[reads.length - 1] = { offsetBytes: last.offsetBytes, lengthBytes };
  }
  return reads;
}

/** Reads a window into memory that holds anything. */
async function readWindow(pass: SnapshotPass, window: Window, bytes: Buffer): Promise<void> {
  const { offsetBytes: start, parts } = window;
  await Promise.all(
    joined(parts).map(async ({ offsetBytes, lengthBytes }) => {
      const from = offsetBytes - start;
      await pass.readInto(offsetBytes, bytes.subarray(from, from + lengthBytes));
    }),
  );
  let at = 0;
  for (const { offsetBytes, lengthBytes } of parts) {
    bytes.fill(0, at, offsetBytes - start);
    at = offsetBytes - start + lengthBytes;
  }
  bytes.fill(0, at);
}

/**
 * Makes a snapshot the payload of an artifact: one frozen pass while the artifact is written.
 *
 * It can be read only once, so the artifact must be one that is written in one pass.
 *
 * @param source belongs to the caller
 */
export function snapshotPayload(source: SnapshotSource, name: string): ArtifactPayload {
  let isRead = false;
  return {
    name,
    mode: 0o644,
    isAugmented: false,
    sizeBytes: source.sizeBytes,
    async *open({ signal, keptBytes, allocate }) {
      if (isRead) {
        throw new IngotError('source-unsupported', 'a snapshot of a device can be read only once');
      }
      isRead = true;
      const zeros = makeZeros(allocate, READ_BYTES);
      const buffers = new ReusedBuffers({ bufferBytes: READ_BYTES, keptBytes, allocate });
      const pass = await source.pass('frozen');
      try {
        const read = async (window: Window): Promise<{ piece: Buffer; buffer?: Buffer }> => {
          signal?.throwIfAborted();
          if (window.parts.length === 0) return { piece: zeros.subarray(0, window.lengthBytes) };
          const buffer = buffers.take();
          const piece = buffer.subarray(0, window.lengthBytes);
          await readWindow(pass, window, piece);
          pass.freeze?.progressed();
          return { piece, buffer };
        };
        const windows = windowsOf(pass, source.sizeBytes);
        for await (const { piece, buffer } of inOrder(windows, read, { limit: READS_AT_ONCE })) {
          pass.freeze?.check();
          if (buffer !== undefined) buffers.gaveOut(buffer, piece.length);
          yield piece;
        }
        pass.freeze?.check();
      } finally {
        await pass.end();
      }
    },
  };
}
