/**
 * The thread of one file's digest: it reads the file by itself, without its holes.
 *
 * Its data is the path and the engine of CRCs. It tells how far it is, and at the end the digest; a
 * file that cannot be read ends it with the error.
 */
import { createHash } from 'node:crypto';
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { setPriority } from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import { combineCrc32, crc32OfZeros } from '../../../bytes/index.ts';
import { nextData } from '../../../capture/adapters/libc.ts';
import { segmentEngineOf } from '../../../keep/adapters/segment-engine-of.ts';

const port = parentPort;
if (port === null) throw new Error('the digest of a file is computed in a worker thread');

const { path, engineName, stop } = workerData as {
  readonly path: string;
  readonly engineName: string;
  /** Not 0 when nobody wants the digest any more. */
  readonly stop: Int32Array;
};
const engine = segmentEngineOf(engineName);

/** Stays in the processor's own cache: half the speed is lost where it does not. */
const BLOCK_BYTES = 256 * 1024;
const TELL_BYTES = 64 * 1024 * 1024;
const ZEROS = Buffer.alloc(BLOCK_BYTES);

try {
  // A digest is one long chain: whoever compresses beside it can wait, it cannot. Linux has a
  // priority for each thread; only root may raise one.
  setPriority(-5);
} catch {
  // Then it is one of many.
}

const hash = createHash('sha256');
const fd = openSync(path, 'r');
const { size: sizeBytes } = fstatSync(fd);
const block = Buffer.allocUnsafeSlow(BLOCK_BYTES);
let crc32 = 0;
let doneBytes = 0;
let toldBytes = 0;

function isWanted(): boolean {
  return Atomics.load(stop, 0) === 0;
}

function tell(): void {
  if (doneBytes - toldBytes < TELL_BYTES) return;
  toldBytes = doneBytes;
  port?.postMessage({ doneBytes });
}

function zeros(lengthBytes: number): void {
  crc32 = combineCrc32(crc32, crc32OfZeros(lengthBytes), lengthBytes);
  for (let left = lengthBytes; left > 0 && isWanted(); left -= ZEROS.length) {
    hash.update(left < ZEROS.length ? ZEROS.subarray(0, left) : ZEROS);
    doneBytes += Math.min(left, ZEROS.length);
    tell();
  }
}

/** @returns false when the file is shorter than it was */
function data(endByte: number): boolean {
  while (doneBytes < endByte && isWanted()) {
    const wanted = Math.min(BLOCK_BYTES, endByte - doneBytes);
    const gotBytes = readSync(fd, block, 0, wanted, doneBytes);
    if (gotBytes === 0) return false;
    const bytes = block.subarray(0, gotBytes);
    hash.update(bytes);
    crc32 = combineCrc32(crc32, engine.crc32(bytes), gotBytes);
    doneBytes += gotBytes;
    tell();
  }
  return true;
}

while (doneBytes < sizeBytes && isWanted()) {
  const next = nextData(fd, doneBytes) ?? { start: sizeBytes, end: sizeBytes };
  if (next.start > doneBytes) zeros(Math.min(next.start, sizeBytes) - doneBytes);
  if (!data(Math.min(next.end, sizeBytes))) break;
}
closeSync(fd);
if (isWanted()) port.postMessage({ doneBytes, crc32, sha256: hash.digest() });
