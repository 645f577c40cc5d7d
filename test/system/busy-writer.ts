import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';

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

/** The number that a file of the writer holds. */
export const numberIn = (path: string): number => Number(readFileSync(path, 'utf8'));
