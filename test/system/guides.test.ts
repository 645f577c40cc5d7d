import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';

const root = join(import.meta.dirname, '../..');

function run(program: string, ...args: string[]): void {
  const done = spawnSync(program, args, { encoding: 'utf8' });
  assert.equal(done.status, 0, `${program} ${args.join(' ')}: ${done.stderr}`);
}

function mountFresh(folder: string, name: string, undo: DisposableStack): string {
  const mountPoint = join(folder, name);
  mkdirSync(mountPoint);
  run('truncate', '-s', '128M', `${mountPoint}.img`);
  run('mke2fs', '-q', '-F', '-t', 'ext4', `${mountPoint}.img`);
  run('mount', '-o', 'loop', `${mountPoint}.img`, mountPoint);
  undo.defer(() => run('umount', mountPoint));
  return mountPoint;
}

/** The commands of a page: its `sh` blocks, in order. */
function commandsOf(page: string): string {
  const text = readFileSync(join(root, 'docs/guides', page), 'utf8');
  return [...text.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map((match) => match[1]).join('\n');
}

test('every command of the guide to golden images works, in order', async (t) => {
  if (spawnSync('mender-artifact', ['--version']).status !== 0) {
    t.skip('mender-artifact is not installed');
    return;
  }
  await using undo = new AsyncDisposableStack();
  const folder = mkdtempSync(join(tmpdir(), 'ingot-guide-'));
  undo.defer(() => rmSync(folder, { recursive: true, force: true }));
  const mounts = new DisposableStack();
  undo.use(mounts);
  const golden = mountFresh(folder, 'golden', mounts);
  const usb = mountFresh(folder, 'usb', mounts);
  writeFileSync(join(golden, 'os-release'), 'NAME=Golden\n');
  run('cp', '-a', join(root, 'src'), golden);
  const env = {
    ...process.env,
    PATH: `${join(root, 'bin')}:${process.env['PATH']}`,
    XDG_CONFIG_HOME: join(folder, 'config'),
    GOLDEN: golden,
    USB: usb,
  };
  const data = join(folder, 'library');
  const daemon = spawn(
    join(root, 'bin/ingot'),
    ['serve', '--data', data, '--listen', '127.0.0.1:0'],
    { env, stdio: ['ignore', 'ignore', 'pipe'] },
  );
  undo.defer(async () => {
    const gone = once(daemon, 'exit');
    if (daemon.kill('SIGTERM')) await gone;
  });
  for await (const line of createInterface({ input: daemon.stderr })) {
    if (line.includes('listening')) break;
  }
  daemon.stderr.resume();

  const commands = commandsOf('golden-image-from-a-device.md');
  assert.ok(commands.includes('ingot snapshot dump'), 'the page has its commands');
  const play = spawnSync('bash', ['-euo', 'pipefail', '-c', commands], {
    cwd: folder,
    env,
    encoding: 'utf8',
    timeout: 270_000,
  });
  assert.equal(play.status, 0, `${play.stdout}\n${play.stderr}`);

  // The copies are the filesystem itself: clean, and equal file by file.
  const copy = join(folder, 'copy');
  mkdirSync(copy);
  run('e2fsck', '-fn', join(folder, 'root-part.fs'));
  run('mount', '-o', 'loop,ro', join(folder, 'root-part.fs'), copy);
  mounts.defer(() => run('umount', copy));
  run('diff', '-r', golden, copy);
});
