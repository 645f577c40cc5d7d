/**
 * One thread of {@link ThreadChunkWorkers}: hashing and coding would stop everything else.
 *
 * Its data is the name of the engine.
 */
import { workerData } from 'node:worker_threads';
import { answerTasks } from './answer-tasks.ts';
import { type ChunkTask, doChunkTask } from './chunk-tasks.ts';
import { segmentEngineOf } from './segment-engine-of.ts';

const engine = segmentEngineOf(workerData as string);

answerTasks((task: ChunkTask) => doChunkTask(engine, task));
