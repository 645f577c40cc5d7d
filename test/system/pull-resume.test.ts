import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { daemonFolder } from './child-daemon.ts';
import { childOf, eventually, ingot, type RunningCommand, startIngot } from './ingot-command.ts';
import {
  differences,
  type LoopFilesystem,
  loopFilesystem,
  run,
  treeOf,
} from './loop-filesystem.ts';
import { type SshDaemon, sshDaemonIsMissing, startSshDaemon } from './ssh-daemon.ts';

const MIB = 1024 * 1024;
const SOURCE_TRUNCATED = 45;
const REQUEST_INVALID = 72;
const TARGET_IN_USE = 54;

let daemon: SshDaemon;

/** How a device is reached, with a log of what went over the link. */
function reached(disk: LoopFilesystem): string[] {
  const log = join(disk.scratch, 'ssh.log');
  rmSync(log, { force: true });
  const ssh = ['-v', '-E', log, '-F', daemon.config].flatMap((word) => ['-S', word]);
  return [...ssh, '--source', disk.mountPoint];
}

function startPull(disk: LoopFilesystem, ...options: string[]): RunningCommand {
  return startIngot(['snapshot', 'pull', 'ssh://root-device', ...reached(disk), ...options]);
}

/**
 * Does something on the device at its `count`th batch of 4 MiB, which it has read and not sent.
 */
function atBatch(disk: LoopFilesystem, count: number, words: string): void {
  const path = join(daemon.programs, 'zstd');
  const [batches, batch] = ['batches', 'batch'].map((name) => join(disk.scratch, name));
  writeFileSync(
    path,
    `#!/bin/sh
cat > '${batch}'
[ $(stat -c %s '${batch}') -lt 4194304 ] || echo >> '${batches}'
if [ -e '${batches}' ] && [ $(wc -l < '${batches}') -eq ${count} ]; then ${words}; fi
exec /usr/bin/zstd "$@" < '${batch}'
`,
  );
  chmodSync(path, 0o755);
}

/** What the last ssh that ended by itself says that it received. */
function receivedBytes(disk: LoopFilesystem): number {
  const log = readFileSync(join(disk.scratch, 'ssh.log'), 'utf8');
  return Number(/received (\d+) bytes/.exec(log)?.[1]);
}

const missing = sshDaemonIsMissing();

describe('snapshot pull after one that was cut', { skip: missing ?? false }, () => {
  before(async () => {
    daemon = await startSshDaemon();
  });
  afterEach(() => {
    for (const name of readdirSync(daemon.programs)) rmSync(join(daemon.programs, name));
  });
  after(async () => {
    await daemon[Symbol.asyncDispose]();
  });

  test('brings only what is missing or changed over the link, into a file', async () => {
    using disk = filled();
    const output = join(disk.scratch, 'out.img');
    await cutAndGoneOn(disk, (...options) => startPull(disk, '-o', output, ...options));
    assertSame(disk, output);
  });

  test('brings only what is missing or changed over the link, into an artifact', async () => {
    using disk = filled();
    const output = join(disk.scratch, 'out.mender');
    const words = ['artifact', 'write', 'rootfs-image', '-n', 'r1', '-c', 'qemu', '-o', output];
    const from = ['-f', 'ssh://root-device'];
    await cutAndGoneOn(disk, (...options) =>
      startIngot([...words, ...from, ...reached(disk), ...options]),
    );
    const files = join(disk.scratch, 'files');
    const dumped = await ingot('artifact', 'dump', '--files', files, output);
    assert.equal(dumped.status, 0, dumped.stderr);
    const [name = ''] = readdirSync(files);
    assertSame(disk, join(files, name));
  });

  test('brings only what is missing or changed over the link, into the library', async () => {
    using disk = filled();
    const folder = daemonFolder(disk.scratch);
    try {
      const library = await folder.start();
      const { env } = library;
      const words = ['snapshot', 'pull', 'ssh://root-device', '--name', 'golden', '--json'];
      const report = join(disk.scratch, 'report');
      await cutAndGoneOn(disk, (...options) => {
        const stdout = openSync(report, 'w');
        const command = startIngot([...words, ...reached(disk), ...options], { env, stdout });
        closeSync(stdout);
        return command;
      });
      const { id } = JSON.parse(readFileSync(report, 'utf8'));
      const output = join(disk.scratch, 'out.img');
      const download = ['images', 'download', id, '--format', 'raw', '-o', output];
      const { status, stderr } = await startIngot(download, { env }).ended;
      assert.equal(status, 0, stderr);
      assertSame(disk, output);
      await library.end('SIGTERM');
    } finally {
      folder.killAll();
    }
  });

  test('brings nothing twice when all came over and the image could not be written', async () => {
    using disk = loopFilesystem();
    writeFileSync(join(disk.mountPoint, 'data'), randomBytes(16 * MIB));
    run('sync', '-f', disk.mountPoint);
    const kept = join(disk.scratch, 'kept');
    const full = join(disk.scratch, 'full');
    run('mkdir', full);
    run('mount', '-t', 'tmpfs', '-o', 'size=30m', 'tmpfs', full);
    try {
      atBatch(disk, 1, `head -c ${20 * MIB} /dev/zero > '${full}/other'`);
      const words = ['-o', join(full, 'out.img'), '--resume', kept, '--wire', 'zstd'];
      const { status, stderr } = await startPull(disk, ...words).ended;
      assert.equal(status, 52, stderr);
      assert.ok(statSync(kept).size > 16 * MIB);
    } finally {
      run('umount', full);
    }
    const output = join(disk.scratch, 'out.img');
    const second = await startPull(disk, '-o', output, '--resume', kept).ended;
    assert.equal(second.status, 0, second.stderr);
    // The batch with the superblock, which each freeze writes.
    assert.ok(receivedBytes(disk) < 5 * MIB, `${receivedBytes(disk)} bytes`);
    run('e2fsck', '-fn', output);
  });

  test('does not touch a file that is something else, or in use', async () => {
    using disk = loopFilesystem();
    const kept = join(disk.scratch, 'kept');
    writeFileSync(kept, 'my notes');
    const output = join(disk.scratch, 'out.img');
    const foreign = await startPull(disk, '-o', output, '--resume', kept).ended;
    assert.equal(foreign.status, REQUEST_INVALID, foreign.stderr);
    assert.equal(readFileSync(kept, 'utf8'), 'my notes');
    const words = ['-o', output, '--resume', kept, '--no-precopy'];
    const useless = await startPull(disk, ...words).ended;
    assert.equal(useless.status, REQUEST_INVALID, useless.stderr);
    rmSync(kept);
    writeFileSync(kept, '');
    const locked = await startLocked(
      kept,
      () => startPull(disk, '-o', output, '--resume', kept).ended,
    );
    assert.equal(locked.status, TARGET_IN_USE, locked.stderr);
    assert.equal(existsSync(output), false);
  });
});

/** A filesystem with 60 MiB that cannot be compressed. */
function filled(): LoopFilesystem {
  const disk = loopFilesystem({ sizeMiB: 128 });
  for (let i = 0; i < 10; i += 1) {
    writeFileSync(join(disk.mountPoint, `file-${i}`), randomBytes(6 * MIB));
  }
  run('sync', '-f', disk.mountPoint);
  return disk;
}

/** Cuts the link of a command in the middle, changes a file, and runs the command again. */
async function cutAndGoneOn(
  disk: LoopFilesystem,
  start: (...options: string[]) => RunningCommand,
): Promise<void> {
  const kept = join(disk.scratch, 'kept');
  const hold = join(disk.scratch, 'hold');
  writeFileSync(hold, '');
  atBatch(disk, 10, `while [ -e '${hold}' ]; do sleep 0.05; done`);
  const first = start('--resume', kept, '--wire', 'zstd');
  await eventually('half of it', () =>
    existsSync(kept) && statSync(kept).size > 30 * MIB ? true : undefined,
  );
  process.kill(childOf(first.pid, 'ssh'), 'SIGKILL');
  const cut = await first.ended;
  rmSync(hold);
  rmSync(join(daemon.programs, 'zstd'));
  assert.equal(cut.status, SOURCE_TRUNCATED, cut.stderr);
  const left = readdirSync(disk.scratch).filter((name) => name.includes('out.'));
  assert.deepEqual(left, [], 'half an output');
  assert.equal(statSync(kept).mode & 0o777, 0o600);
  const keptBytes = statSync(kept).size;
  writeFileSync(join(disk.mountPoint, 'file-0'), randomBytes(MIB));

  const second = await start('--resume', kept).ended;
  assert.equal(second.status, 0, second.stderr);
  const received = receivedBytes(disk);
  // What changed comes in batches of 4 MiB: file-0, and what the mount wrote.
  assert.ok(received < 75 * MIB - keptBytes, `${received} bytes after ${keptBytes}`);
  assert.equal(existsSync(kept), false, 'it is of no use any more');
}

/** Compares an image with what is mounted, file by file. */
function assertSame(disk: LoopFilesystem, image: string): void {
  run('e2fsck', '-fn', image);
  const copy = disk.mountImage(image, 'loop,ro');
  assert.deepEqual(differences(treeOf(disk.mountPoint), treeOf(copy)), []);
  disk.unmountImages();
}

/** Does something while another process has a file locked. */
async function startLocked<T>(path: string, body: () => Promise<T>): Promise<T> {
  const holder = spawn('flock', ['--exclusive', '--no-fork', path, 'sh', '-c', 'echo; exec cat'], {
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  await new Promise((resolve) => holder.stdout.once('data', resolve));
  try {
    return await body();
  } finally {
    const ended = new Promise((resolve) => holder.once('exit', resolve));
    holder.kill('SIGKILL');
    await ended;
  }
}
