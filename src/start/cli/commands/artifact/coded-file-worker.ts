/**
 * A thread that codes a file: it reads pieces by itself, so that each is still in the core's cache
 * when it is summed up and coded.
 *
 * Its data is a {@link CodingThread}; it takes {@link CodingTask}s and answers each with a
 * {@link CodingResult}. `end` ends it; a file that cannot be read does, with the error.
 */
import { openSync, readSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { MAX_CHUNK_BYTES } from '../../../../bytes/index.ts';
import { segmentEngineOf } from '../../../../keep/adapters/segment-engine-of.ts';
import type { CodingResult, CodingTask, CodingThread } from './coded-file.ts';

const port = parentPort;
if (port === null) throw new Error('a file is coded in worker threads');

const { path, engineName, room } = workerData as CodingThread;
const engine = segmentEngineOf(engineName);
const zeros = Buffer.alloc(MAX_CHUNK_BYTES);
const block = Buffer.allocUnsafeSlow(MAX_CHUNK_BYTES);
// The thread ends with what it works for, and its descriptor with it.
const fd = openSync(path, 'r');

/** @returns how many bytes there are, fewer than asked for only at the file's end */
function read(offsetBytes: number): number {
  let gotBytes = 0;
  while (gotBytes < block.length) {
    const count = readSync(fd, block, gotBytes, block.length - gotBytes, offsetBytes + gotBytes);
    if (count === 0) break;
    gotBytes += count;
  }
  return gotBytes;
}

port.on('message', (task: CodingTask | 'end') => {
  if (task === 'end') {
    port.close();
    return;
  }
  const { number, offsetBytes, slot } = task;
  const plain = block.subarray(0, read(offsetBytes));
  const isZeros = plain.equals(zeros.subarray(0, plain.length));
  const target = Buffer.from(room, slot.startBytes, slot.lengthBytes);
  const result: CodingResult = {
    number,
    plainBytes: plain.length,
    crc32: isZeros ? 0 : engine.crc32(plain),
    codedBytes: isZeros ? 0 : engine.encodeInto(plain, target),
  };
  port.postMessage(result);
});
