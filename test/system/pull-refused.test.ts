import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { chmodSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { type Ending, settlesWithin, startIngot, startWriter } from './ingot-command.ts';
import { type LoopFilesystem, loopFilesystem, run } from './loop-filesystem.ts';
import { type SshDaemon, SUDO_PASSWORD, sshDaemonIsMissing, startSshDaemon } from './ssh-daemon.ts';

const MIB = 1024 * 1024;
const TARGET_TOO_SMALL = 51;
const TARGET_FULL = 52;
const TOOL_MISSING = 57;
const REMOTE_REFUSED = 81;

let daemon: SshDaemon;

/** Puts a program over one of the device's. */
function offer(name: string, script: string): void {
  const path = join(daemon.programs, name);
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
}

/** Takes a program away, in this mount namespace. */
function hide(path: string): Disposable {
  run('mount', '--bind', '/dev/null', path);
  return { [Symbol.dispose]: () => void run('umount', path) };
}

/** A small filesystem to write to. */
function smallFilesystem(disk: LoopFilesystem, sizeMiB: number): Disposable & { path: string } {
  const path = join(disk.scratch, 'small');
  run('mkdir', path);
  run('mount', '-t', 'tmpfs', '-o', `size=${sizeMiB}m`, 'tmpfs', path);
  return { path, [Symbol.dispose]: () => void run('umount', path) };
}

/** Does something on the device once, when it has read a whole batch. */
function whenBatchIsRead(disk: LoopFilesystem, words: string): void {
  const done = join(disk.scratch, 'done');
  const batch = join(disk.scratch, 'batch');
  offer(
    'zstd',
    `cat > '${batch}'
if [ $(stat -c %s '${batch}') -ge 4194304 ] && [ ! -e '${done}' ]; then : > '${done}'; ${words}; fi
exec /usr/bin/zstd "$@" < '${batch}'`,
  );
}

function pull(disk: LoopFilesystem, ...options: string[]): Promise<Ending> {
  return pullFrom('root-device', disk, '/dev/null', ...options);
}

function pullFrom(
  host: string,
  disk: LoopFilesystem,
  stdin: string,
  ...options: string[]
): Promise<Ending> {
  const words = ['snapshot', 'pull', `ssh://${host}`, '-S', '-F', '-S', daemon.config];
  return startIngot([...words, '--source', disk.mountPoint, ...options], { stdin }).ended;
}

/** A disk with more on it than one batch. */
function filledDisk(): LoopFilesystem {
  const disk = loopFilesystem();
  writeFileSync(join(disk.mountPoint, 'data'), randomBytes(12 * MIB));
  run('sync', '-f', disk.mountPoint);
  return disk;
}

/** Fails unless a pull failed as it should, and left nothing frozen and no file. */
async function assertNothingLeft(
  disk: LoopFilesystem,
  { status, stderr }: Ending,
  expected: { readonly status: number; readonly says: RegExp; readonly folder: string },
): Promise<void> {
  assert.equal(status, expected.status, stderr);
  assert.match(stderr, expected.says);
  const { done } = startWriter(disk.mountPoint);
  assert.ok(await settlesWithin(done, 4000), 'still frozen');
  const files = readdirSync(expected.folder);
  assert.deepEqual(
    files.filter((name) => name.includes('out.img')),
    [],
  );
}

const missing = sshDaemonIsMissing();

describe('snapshot pull that cannot be', { skip: missing ?? false }, () => {
  before(async () => {
    daemon = await startSshDaemon();
  });
  afterEach(() => {
    for (const name of readdirSync(daemon.programs)) rmSync(join(daemon.programs, name));
  });
  after(async () => {
    await daemon[Symbol.asyncDispose]();
  });

  test('for want of fsfreeze on the device says so', async () => {
    using disk = filledDisk();
    using _hidden = hide('/usr/sbin/fsfreeze');
    const ending = await pull(disk, '-o', join(disk.scratch, 'out.img'));
    const says = /the device has no fsfreeze .*tool-missing/;
    await assertNothingLeft(disk, ending, { status: TOOL_MISSING, says, folder: disk.scratch });
  });

  test('for want of a way past the cache of the device says so', async () => {
    using disk = filledDisk();
    using _hidden = hide('/usr/sbin/blockdev');
    const output = join(disk.scratch, 'out.img');
    const direct = await pull(disk, '-o', output);
    assert.equal(direct.status, 0, 'with a dd that reads directly no blockdev is needed');
    run('e2fsck', '-fn', output);
    rmSync(output);
    offer('dd', 'case $* in *direct*) exit 1 ;; esac\nexec /usr/bin/dd "$@"');
    const ending = await pull(disk, '-o', output);
    const says = /there is no blockdev.*tool-missing/;
    await assertNothingLeft(disk, ending, { status: TOOL_MISSING, says, folder: disk.scratch });
  });

  test('for want of rights of the user says so, with a password and without', async () => {
    using disk = filledDisk();
    const password = join(disk.scratch, 'password');
    writeFileSync(password, `${SUDO_PASSWORD}\n`);
    const options = ['-o', join(disk.scratch, 'out.img')];
    for (const [stdin, says] of [
      [password, /plain is not in the sudoers file.*remote-refused/s],
      ['/dev/null', /sudo asks for a password.*remote-refused/],
    ] as const) {
      const ending = await pullFrom('plain-device', disk, stdin, ...options);
      const folder = disk.scratch;
      await assertNothingLeft(disk, ending, { status: REMOTE_REFUSED, says, folder });
    }
  });

  for (const options of [[], ['--no-precopy']]) {
    const how = options.length > 0 ? 'in one frozen pass' : 'after a pre-copy';
    test(`into a folder that is full in the middle leaves no file, ${how}`, async () => {
      using disk = filledDisk();
      using small = smallFilesystem(disk, 40);
      whenBatchIsRead(disk, `head -c 36000000 /dev/zero > '${small.path}/other'`);
      const output = join(small.path, 'out.img');
      const ending = await pull(disk, '-o', output, ...options);
      const says = /no space left.*target-full/;
      await assertNothingLeft(disk, ending, {
        status: TARGET_FULL,
        says,
        folder: small.path,
      });
    });
  }

  test('for want of room for its spool says which folder is full', async () => {
    using disk = filledDisk();
    using small = smallFilesystem(disk, 5);
    const output = join(disk.scratch, 'out.img');
    const ending = await pull(disk, '-o', output, '--spool', small.path);
    const says = /the spool in .*small is full.*target-full/;
    await assertNothingLeft(disk, ending, { status: TARGET_FULL, says, folder: disk.scratch });
    assert.deepEqual(readdirSync(small.path), []);
  });

  for (const options of [[], ['--no-precopy']]) {
    test(`into what is too small ends before anything is frozen ${options.join(' ')}`, async () => {
      using disk = filledDisk();
      offer('fsfreeze', `: > '${disk.scratch}/froze'\nexec /usr/sbin/fsfreeze "$@"`);
      using small = smallFilesystem(disk, 10);
      const says = /the image needs .*target-too-small/;
      const expected = { status: TARGET_TOO_SMALL, says, folder: small.path };
      const inFolder = await pull(disk, '-o', join(small.path, 'out.img'), ...options);
      await assertNothingLeft(disk, inFolder, expected);
      const image = join(disk.scratch, 'small-device.img');
      run('truncate', '-s', '8M', image);
      const device = run('losetup', '--find', '--show', image).trim();
      try {
        await assertNothingLeft(disk, await pull(disk, '-o', device, ...options), expected);
        run('cmp', '-n', String(8 * MIB), device, '/dev/zero');
      } finally {
        run('losetup', '--detach', device);
      }
      assert.ok(!readdirSync(disk.scratch).includes('froze'), 'it was frozen');
    });
  }
});
