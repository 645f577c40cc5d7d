/**
 * Passes all tests: the checks and unit tests, the tests against real peers, those that mount and
 * freeze loop filesystems (root only), and those in a guest with another kernel. `scripts/test` brings Node 24 and then runs this.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { ensureDebianPackages } from './debian-packages.ts';

const root = join(import.meta.dirname, '..');
const say = (line: string): void => {
  process.stdout.write(`ingot: ${line}\n`);
};

ensureDebianPackages(say);

const startedAt = performance.now();
for (const step of ['check', 'test:interop', 'test:system', 'test:guest']) {
  const stepStartedAt = performance.now();
  say(`npm run ${step}`);
  const run = spawnSync('npm', ['run', '--silent', step], { cwd: root, stdio: 'inherit' });
  const seconds = ((performance.now() - stepStartedAt) / 1000).toFixed(0);
  if (run.status !== 0) {
    say(`npm run ${step} failed after ${seconds} s`);
    process.exit(1);
  }
  say(`npm run ${step} passed in ${seconds} s`);
}
say(`all tests passed in ${((performance.now() - startedAt) / 1000).toFixed(0)} s`);
