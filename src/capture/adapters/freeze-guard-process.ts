/**
 * The freeze guard: a process of its own that holds descriptors of filesystems, freezes them for
 * its capture and thaws them whatever happens to it (docs/capture.md).
 *
 * argv: the `st_dev` that each of the descriptors 3, 4, … must have. It talks over stdin and
 * stdout, opens nothing, and writes to no filesystem.
 */
import { fstatSync, writeFileSync, writeSync } from 'node:fs';
import { systemClock } from '../../base/index.ts';
import { GuardMachine } from '../guard-machine.ts';
import { freezeFilesystem, thawFilesystem } from './libc.ts';

const FIRST_DESCRIPTOR = 3;

for (const signal of ['SIGHUP', 'SIGINT', 'SIGTERM', 'SIGQUIT', 'SIGPIPE'] as const) {
  process.on(signal, () => undefined);
}
try {
  // The last that the kernel kills for memory. Not allowed in every container: then as it is.
  writeFileSync('/proc/self/oom_score_adj', '-1000');
} catch {
  // The guard still thaws on everything but its own death, and then its capture thaws.
}

function say(line: string): void {
  try {
    writeSync(1, `${line}\n`);
  } catch {
    // The capture is gone, which the end of stdin tells too.
  }
}

const expected = process.argv.slice(2);
const wrong = expected.findIndex(
  (dev, index) => String(fstatSync(FIRST_DESCRIPTOR + index, { bigint: true }).dev) !== dev,
);
if (wrong >= 0) {
  say(`wrong ${wrong}`);
  process.exit(1);
}

const machine = new GuardMachine({
  calls: {
    freeze: (index) => freezeFilesystem(FIRST_DESCRIPTOR + index),
    thaw: (index) => thawFilesystem(FIRST_DESCRIPTOR + index),
  },
  count: expected.length,
  clock: systemClock,
  say,
});

let pending = '';
process.stdin.setEncoding('utf8');
process.stdin.on('data', (text: string) => {
  const lines = (pending + text).split('\n');
  pending = lines.pop() ?? '';
  for (const line of lines) machine.receive(line);
});
process.stdin.once('close', () => {
  machine.captureGone();
  process.exit(0);
});
process.stdin.on('error', () => process.stdin.destroy());
say('ready');
