/**
 * Runs one kind of test with Node's test runner: `unit`, `interop`, `system` or `guest`.
 *
 * Guest tests boot Debian's full kernel in QEMU, for what the machine's own kernel may lack.
 * System tests mount filesystems and freeze them, so they need root and run in a mount namespace of
 * their own: whatever a broken test leaves mounted goes with it.
 */
import { spawn } from 'node:child_process';
import { globSync } from 'node:fs';
import { NODE_FLAGS } from '../src/base/index.ts';

const KINDS = {
  unit: [
    'src/**/*.test.ts',
    'test/*.test.ts',
    'test/contracts/*.test.ts',
    'test/faults/*.test.ts',
    'test/golden/*.test.ts',
  ],
  interop: ['test/interop/*.test.ts'],
  system: ['test/system/*.test.ts'],
  guest: ['test/guest/*.test.ts'],
} as const;

const [kind, ...rest] = process.argv.slice(2);
if (kind !== 'unit' && kind !== 'interop' && kind !== 'system' && kind !== 'guest') {
  process.stderr.write('usage: node scripts/run-tests.ts unit|interop|system|guest [FILE…]\n');
  process.exit(2);
}
const files = rest.length > 0 ? rest : globSync([...KINDS[kind]]).sort();
const isRoot = process.getuid?.() === 0;
if (kind === 'system' && !isRoot) {
  process.stdout.write(
    'system tests are skipped: they mount and freeze filesystems, which needs root\n0 passed, 0 failed\n',
  );
  process.exit(0);
}
const test = [
  process.execPath,
  ...NODE_FLAGS,
  '--test',
  // A guest without KVM takes its time for each step.
  `--test-timeout=${kind === 'guest' ? 900_000 : 300_000}`,
  // Two at once on a small machine; system tests one by one, they share the loop devices' speed.
  `--test-concurrency=${kind === 'unit' ? 2 : 1}`,
  ...files,
];
const argv = kind === 'system' ? ['unshare', '--mount', '--propagation', 'private', ...test] : test;
// Tests that put files over those of /etc must know that nobody else sees it.
const env = kind === 'system' ? { ...process.env, INGOT_TEST_OWN_MOUNTS: '1' } : process.env;
const child = spawn(argv[0] ?? '', argv.slice(1), { stdio: 'inherit', env });
child.on('exit', (status, signal) => {
  process.exitCode = signal === null ? (status ?? 1) : 1;
});
