/**
 * A thread that reads, hashes and codes parts of a file. Its data is a {@link CodingThread}.
 */
import { workerData } from 'node:worker_threads';
import { answerTasks } from '../../../../keep/adapters/answer-tasks.ts';
import { segmentEngineOf } from '../../../../keep/adapters/segment-engine-of.ts';
import { type CodingTask, CodingTasks, type CodingThread } from './coding-tasks.ts';

const { fd, engineName } = workerData as CodingThread;
const tasks = new CodingTasks(fd, segmentEngineOf(engineName));

answerTasks((task: CodingTask) => tasks.do(task));
