import { parentPort } from 'node:worker_threads';
import type { NumberedAnswer, NumberedTask } from './task-thread.ts';

/**
 * Does the tasks of a `TaskThread`, on the thread that it was made for; `end` ends it.
 *
 * @param answer does one task; its result is never undefined
 */
export function answerTasks<T, R>(answer: (task: T) => R): void {
  const port = parentPort;
  if (port === null) throw new Error('tasks are answered in a worker thread');
  const answered = ({ number, task }: NumberedTask<T>): NumberedAnswer<R> => {
    try {
      return { number, result: answer(task) };
    } catch (error) {
      return { number, bug: error };
    }
  };
  port.on('message', (call: NumberedTask<T> | 'end') => {
    if (call === 'end') port.close();
    else port.postMessage(answered(call));
  });
}
