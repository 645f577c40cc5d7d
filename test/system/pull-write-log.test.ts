import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { chmodSync, existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { eventually, startIngot } from './ingot-command.ts';
import {
  differences,
  type LoopFilesystem,
  type LoopKind,
  loopFilesystem,
  run,
  treeOf,
} from './loop-filesystem.ts';
import { type SshDaemon, sshDaemonIsMissing, startSshDaemon } from './ssh-daemon.ts';

const INSTANCES = '/sys/kernel/tracing/instances';
const MIB = 1024 * 1024;

let daemon: SshDaemon;

/** Puts a program over one of the device's. */
function offer(name: string, script: string): void {
  const path = join(daemon.programs, name);
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
}

/** Does something once, when the device has read a whole batch and sent nothing of it. */
function inTheMiddle(disk: LoopFilesystem, words: string): void {
  const done = join(disk.scratch, 'done');
  const batch = join(disk.scratch, 'batch');
  offer(
    'zstd',
    `cat > '${batch}'
if [ $(stat -c %s '${batch}') -ge 4194304 ] && [ ! -e '${done}' ]; then : > '${done}'; ${words}; fi
exec /usr/bin/zstd "$@" < '${batch}'`,
  );
}

async function pull(
  disk: LoopFilesystem,
): Promise<{ readonly output: string; readonly stderr: string }> {
  const output = join(disk.scratch, 'out.img');
  const words = ['snapshot', 'pull', 'ssh://root-device', '-S', '-F', '-S', daemon.config];
  const { status, stderr } = await startIngot([
    ...words,
    ...['--source', disk.mountPoint, '-o', output],
  ]).ended;
  assert.equal(status, 0, stderr);
  return { output, stderr };
}

/** Fails unless an image has the files that the disk has. */
function assertSame(disk: LoopFilesystem, output: string, kind: LoopKind): void {
  if (kind === 'ext4') run('e2fsck', '-fn', output);
  const copy = disk.mountImage(output, kind === 'xfs' ? 'loop,nouuid' : 'loop,ro');
  assert.deepEqual(differences(treeOf(disk.mountPoint), treeOf(copy)), []);
  disk.unmountImages();
}

const missing = sshDaemonIsMissing();

describe('snapshot pull from a device that logs its requests', { skip: missing ?? false }, () => {
  before(async () => {
    daemon = await startSshDaemon({ hasWriteLog: true });
  });
  afterEach(() => {
    for (const name of readdirSync(daemon.programs)) rmSync(join(daemon.programs, name));
  });
  after(async () => {
    await daemon[Symbol.asyncDispose]();
  });

  for (const kind of ['ext4', 'xfs'] as const) {
    test(`what is written to ${kind} meanwhile comes along, and nothing is hashed`, async () => {
      using disk = loopFilesystem({ kind, sizeMiB: kind === 'xfs' ? 320 : 128 });
      writeFileSync(join(disk.mountPoint, 'big'), randomBytes(24 * MIB));
      writeFileSync(join(disk.mountPoint, 'gone'), randomBytes(3 * MIB));
      run('sync', '-f', disk.mountPoint);
      const hashed = join(disk.scratch, 'hashed');
      offer('b2sum', `: > '${hashed}'\nexec /usr/bin/b2sum "$@"`);
      inTheMiddle(
        disk,
        `cd '${disk.mountPoint}'
        dd if=/dev/urandom of=big bs=4096 seek=3000 count=5 conv=notrunc 2>/dev/null
        dd if=/dev/urandom of=big bs=4096 count=1 conv=notrunc,fsync 2>/dev/null
        rm gone; head -c 2000000 /dev/urandom > new`,
      );
      const { output } = await pull(disk);
      assertSame(disk, output, kind);
      assert.equal(existsSync(hashed), false, 'the device hashed');
      assert.deepEqual(readdirSync(INSTANCES), []);
    });
  }

  test('a log that ran over is not believed', async () => {
    using disk = loopFilesystem({ sizeMiB: 128 });
    writeFileSync(join(disk.mountPoint, 'big'), randomBytes(24 * MIB));
    run('sync', '-f', disk.mountPoint);
    const hashed = join(disk.scratch, 'hashed');
    offer('b2sum', `: > '${hashed}'\nexec /usr/bin/b2sum "$@"`);
    inTheMiddle(
      disk,
      `for log in ${INSTANCES}/ingot_*; do echo 4 > $log/buffer_size_kb; done
      dd if=/dev/urandom of='${disk.mountPoint}/big' bs=4096 count=3000 oflag=direct conv=notrunc 2>/dev/null`,
    );
    const { output } = await pull(disk);
    assertSame(disk, output, 'ext4');
    assert.ok(existsSync(hashed), 'the device was not asked for digests');
    assert.deepEqual(readdirSync(INSTANCES), []);
  });

  test('a session that is cut leaves no log behind', async () => {
    using disk = loopFilesystem();
    writeFileSync(join(disk.mountPoint, 'data'), randomBytes(8 * MIB));
    const waiting = join(disk.scratch, 'waiting');
    const hold = join(disk.scratch, 'hold');
    writeFileSync(hold, '');
    inTheMiddle(disk, `: > '${waiting}'; while [ -e '${hold}' ]; do sleep 0.05; done`);
    const words = ['snapshot', 'pull', 'ssh://root-device', '-S', '-F', '-S', daemon.config];
    const output = join(disk.scratch, 'out.img');
    const command = startIngot([...words, '--source', disk.mountPoint, '-o', output]);
    await eventually('a transfer that waits', () => (existsSync(waiting) ? true : undefined));
    assert.equal(readdirSync(INSTANCES).length, 1);
    command.child.kill('SIGKILL');
    await command.ended;
    rmSync(hold);
    await eventually('the end of the log', () =>
      readdirSync(INSTANCES).length === 0 ? true : undefined,
    );
  });
});
