import { KIB } from '../base/index.ts';

/** A buffer below this is worth copying to save its receiver a call. */
const SMALL_BYTES = 64 * KIB;

/** Copied buffers are joined up to this. */
const MAX_COPY_BYTES = 512 * KIB;

/**
 * Joins buffers into few large ones: those that lie side by side in memory without a copy, small
 * ones by copying them together.
 *
 * @returns the same bytes in the same order
 */
export function* joinBuffers(buffers: Iterable<Buffer>): Generator<Buffer, void, undefined> {
  let small: Buffer[] = [];
  let smallBytes = 0;
  for (const buffer of joinNeighbours(buffers)) {
    const isSmall = buffer.byteLength < SMALL_BYTES;
    if (smallBytes > 0 && (!isSmall || smallBytes + buffer.byteLength > MAX_COPY_BYTES)) {
      yield joined(small);
      small = [];
      smallBytes = 0;
    }
    if (isSmall) {
      small.push(buffer);
      smallBytes += buffer.byteLength;
    } else {
      yield buffer;
    }
  }
  if (smallBytes > 0) yield joined(small);
}

function joined(buffers: readonly Buffer[]): Buffer {
  const [only] = buffers;
  return buffers.length === 1 && only !== undefined ? only : Buffer.concat(buffers);
}

/** Joins buffers that are views into the same memory, one behind the other. */
function* joinNeighbours(buffers: Iterable<Buffer>): Generator<Buffer, void, undefined> {
  let run: Buffer | undefined;
  for (const next of buffers) {
    if (next.byteLength === 0) continue;
    if (
      run !== undefined &&
      run.buffer === next.buffer &&
      run.byteOffset + run.byteLength === next.byteOffset
    ) {
      run = Buffer.from(run.buffer, run.byteOffset, run.byteLength + next.byteLength);
    } else {
      if (run !== undefined) yield run;
      run = next;
    }
  }
  if (run !== undefined) yield run;
}
