/**
 * One thread of {@link ThreadChunkWorkers}: hashing and coding would stop everything else.
 *
 * Takes `{ number, task }`, answers `{ number, result }` or `{ number, bug }`. `end` ends it.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { type ChunkTask, doChunkTask } from './chunk-tasks.ts';
import { segmentEngineOf } from './segment-engine-of.ts';

const port = parentPort;
if (port === null) throw new Error('chunks are worked on in a worker thread');

const engine = segmentEngineOf(workerData as string);

port.on('message', (call: { number: number; task: ChunkTask } | 'end') => {
  if (call === 'end') {
    port.close();
    return;
  }
  const { number, task } = call;
  try {
    port.postMessage({ number, result: doChunkTask(engine, task) });
  } catch (error) {
    port.postMessage({ number, bug: error });
  }
});
