import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { TaskThread } from './task-thread.ts';

const threadOf = (program: string): TaskThread<string, string> =>
  new TaskThread(new Worker(program, { eval: true }), () => undefined);

test('a thread that dies fails the tasks that it has, and those that come', async () => {
  for (const [end, words] of [
    ['process.exit(0)', /has ended/],
    ["throw new Error('no engine')", /no engine/],
  ] as const) {
    const thread = threadOf(`require('worker_threads').parentPort.on('message', () => { ${end} })`);
    await Promise.all([
      assert.rejects(thread.run('one'), words),
      assert.rejects(thread.run('two'), words),
    ]);
    await assert.rejects(thread.run('three'), words);
    assert.equal(thread.load, 0);
    await thread.end();
  }
});
