import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { eventually } from './ingot-command.ts';

/** Counts up in two files in turn, each write forced out, until it is told to end. */
const WRITER = `
const { openSync, writeSync, fsyncSync, writeFileSync } = require('node:fs');
const [first, second] = ['first', 'second'].map((name) => openSync(process.argv[1] + '/' + name, 'w'));
for (let n = 1; ; n++) {
  for (const fd of [first, second]) {
    writeSync(fd, String(n).padStart(12), 0);
    fsyncSync(fd);
  }
  writeFileSync(process.argv[1] + '/churn-' + (n % 20), 'x'.repeat((n * 7919) % 90000));
  if (n === 1) process.stdout.write('it writes');
}
`;

/**
 * Starts a process that writes to a filesystem without a pause; disposing ends it.
 *
 * At any instant the number in `first` is that in `second`, or one more.
 */
export async function startBusyWriter(folder: string): Promise<AsyncDisposable> {
  const child = spawn(process.execPath, ['-e', WRITER, folder], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  return {
    [Symbol.asyncDispose]: async () => {
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
    },
  };
}

/** Waits until the writer has forced out a number behind this one in both files. */
export async function writerPasses(folder: string, last: number): Promise<void> {
  const path = join(folder, 'second');
  await eventually('a write of the writer', () => (numberIn(path) > last ? true : undefined));
}

/** The number that a file of the writer holds. */
export const numberIn = (path: string): number => Number(readFileSync(path, 'utf8'));
