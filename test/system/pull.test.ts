import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  assertSettlesBetween,
  childOf,
  type Ending,
  eventually,
  openPipe,
  type RunningCommand,
  settlesWithin,
  startIngot,
  startWriter,
  untilFrozen,
} from './ingot-command.ts';
import {
  differences,
  type LoopFilesystem,
  type LoopKind,
  loopFilesystem,
  run,
  treeOf,
} from './loop-filesystem.ts';
import { type SshDaemon, SUDO_PASSWORD, sshDaemonIsMissing, startSshDaemon } from './ssh-daemon.ts';

const CANCELLED = 130;
const FREEZE_LOST = 47;
const FREEZE_TIMEOUT = 48;
const SOURCE_FROZEN = 41;
const SOURCE_NOT_FOUND = 42;
const SOURCE_TRUNCATED = 45;
const TARGET_WOULD_FREEZE = 49;
const SSH_FAILED = 80;
const REMOTE_REFUSED = 81;

let daemon: SshDaemon;

function pull(disk: LoopFilesystem, host: string, ...options: string[]): RunningCommand {
  return startPull(daemon.config, host, '--source', disk.mountPoint, ...options);
}

function startPull(config: string, host: string, ...options: string[]): RunningCommand {
  return startIngot(['snapshot', 'pull', `ssh://${host}`, '-S', '-F', '-S', config, ...options]);
}

/** Files of many sizes, half of them compressible, and holes of deleted ones between them. */
function writeTree(folder: string): void {
  mkdirSync(join(folder, 'a folder'), { recursive: true });
  symlinkSync('file-1', join(folder, 'a folder', 'link'));
  for (let i = 0; i < 60; i += 1) {
    const bytes = randomBytes(9000 + i * 700);
    if (i % 2 === 0) bytes.fill(i);
    writeFileSync(join(folder, `file-${i}`), bytes);
  }
  run('sync', '-f', folder);
  for (let i = 0; i < 60; i += 5) run('rm', join(folder, `file-${i}`));
}

/** Fails when anything can not be written at once. */
async function assertThawed(folder: string): Promise<void> {
  const writer = startWriter(folder);
  assert.ok(await settlesWithin(writer.done, 3000), `${folder} is still frozen`);
}

function parentOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
}

/** What runs on the device and holds the mount point. */
function holdersOf(mountPoint: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        return readlinkSync(`/proc/${pid}/fd/5`) === mountPoint;
      } catch {
        return false; // It has no such descriptor, or ended while it was looked at.
      }
    });
}

/** The guard on the device: of the shells that hold the mount point, the child of the other. */
function guardOf(mountPoint: string): number | undefined {
  const holders = holdersOf(mountPoint);
  return holders.find((pid) => holders.includes(parentOf(pid)));
}

const missing = sshDaemonIsMissing();

describe('snapshot pull over a real sshd', { skip: missing ?? false }, () => {
  before(async () => {
    daemon = await startSshDaemon();
  });
  after(async () => {
    await daemon[Symbol.asyncDispose]();
  });

  for (const kind of ['ext4', 'xfs', 'btrfs'] as const satisfies LoopKind[]) {
    test(`a mounted ${kind} with a blank in its path comes over with every file`, async () => {
      using disk = loopFilesystem({
        kind,
        sizeMiB: kind === 'xfs' ? 320 : 128,
        mountName: 'mounted here',
      });
      // The second round sees through caches of the first: the same names, other bytes.
      for (const round of kind === 'ext4' ? ['first', 'second'] : ['only']) {
        run('rm', '-rf', join(disk.mountPoint, 'tree'));
        writeTree(join(disk.mountPoint, 'tree'));
        const output = join(disk.scratch, `${round}.img`);
        const { status, stderr } = await pull(disk, 'root-device', '-o', output).ended;
        assert.equal(status, 0, stderr);
        assert.match(stderr, /consistency: frozen/);
        await assertThawed(disk.mountPoint);
        run('rm', join(disk.mountPoint, 'written'));
        const options = { ext4: 'loop,ro', xfs: 'loop,nouuid', btrfs: 'loop,ro' }[kind];
        const wanted = treeOf(join(disk.mountPoint, 'tree'));
        // btrfs would take an image with the identity of a mounted filesystem for that one.
        if (kind === 'btrfs') run('btrfstune', '-fu', output);
        const copy = disk.mountImage(output, options);
        assert.deepEqual(differences(wanted, treeOf(join(copy, 'tree'))), []);
        disk.unmountImages();
        if (kind === 'ext4') run('e2fsck', '-fn', output);
      }
    });
  }

  test('a device that is not mounted comes over bit for bit, in every coding', async () => {
    using disk = loopFilesystem({ sizeMiB: 32 });
    writeTree(join(disk.mountPoint, 'tree'));
    run('umount', disk.mountPoint);
    const image = `${disk.scratch}/unmounted.img`;
    run('cp', disk.image, image);
    const device = run('losetup', '--find', '--show', image).trim();
    try {
      for (const wire of ['none', 'gzip', 'zstd']) {
        const output = join(disk.scratch, wire);
        const words = ['--source', device, '--verbatim', '--wire', wire, '-o', output];
        const { status, stderr } = await startPull(daemon.config, 'root-device', ...words).ended;
        assert.equal(status, 0, stderr);
        assert.match(stderr, /consistency: crash-consistent/);
        run('cmp', image, output);
      }
    } finally {
      run('losetup', '--detach', device);
    }
  });

  test('a disk of 4096-byte sectors with an MBR comes over by its filesystems', async () => {
    using disk = loopFilesystem({ sizeMiB: 32 });
    const image = join(disk.scratch, 'disk.img');
    run('truncate', '-s', '64M', image);
    const words = ['--find', '--show', '--sector-size', '4096', image];
    const device = run('losetup', ...words).trim();
    try {
      run('sh', '-c', 'echo start=2048, size=8192, type=83 | sfdisk -q --label dos "$0"', device);
      const offset = 8 * 1024 * 1024;
      const part = join(disk.scratch, 'part.img');
      run('mkfs.ext4', '-q', '-F', part, '32M');
      run('dd', `if=${part}`, `of=${device}`, 'bs=1M', 'seek=8', 'oflag=direct');
      const output = join(disk.scratch, 'out.img');
      const { status, stderr } = await startPull(
        daemon.config,
        'root-device',
        ...['--source', device, '-o', output, '--json'],
      ).ended;
      assert.equal(status, 0, stderr);
      const report = JSON.parse(stderr.trim().split('\n').at(-1) ?? '');
      assert.deepEqual(report.notices, []);
      run('e2fsck', '-fn', `${output}?offset=${offset}`);
    } finally {
      run('losetup', '--detach', device);
    }
  });

  test('an image goes straight into the library, and a second one only brings what is new', async () => {
    using disk = loopFilesystem();
    writeTree(join(disk.mountPoint, 'tree'));
    await using library = await startLibrary(disk.scratch);
    const added: number[] = [];
    for (const name of ['first', 'second']) {
      const words = pullWords(disk, '--name', name, '--json');
      const { stdout, status, stderr } = await library.ingot(...words);
      assert.equal(status, 0, stderr);
      const image = JSON.parse(stdout);
      assert.equal(image.consistency, 'frozen');
      added.push(image.added_bytes);
      const output = join(disk.scratch, name);
      const download = await library.ingot(
        'images',
        'download',
        image.id,
        '--format',
        'raw',
        '-o',
        output,
      );
      assert.equal(download.status, 0, download.stderr);
      const copy = disk.mountImage(output, 'loop,ro');
      const wanted = treeOf(join(disk.mountPoint, 'tree'));
      assert.deepEqual(differences(wanted, treeOf(join(copy, 'tree'))), []);
      disk.unmountImages();
    }
    const [first = 0, second = 0] = added;
    assert.ok(second < first / 10, `${second} of ${first} bytes are new`);
  });

  test('sudo without a password is enough', async () => {
    using disk = loopFilesystem();
    const output = join(disk.scratch, 'out.img');
    const { status, stderr } = await pull(disk, 'free-device', '-o', output).ended;
    assert.equal(status, 0, stderr);
    run('e2fsck', '-fn', output);
  });

  test('sudo takes the right password from stdin, and refuses a wrong one or none', async () => {
    using disk = loopFilesystem();
    const output = join(disk.scratch, 'out.img');
    const withStdin = (text: string): Promise<Ending> => {
      const pipe = join(disk.scratch, 'password');
      writeFileSync(pipe, text);
      return pullWithStdin(disk, pipe, output);
    };
    const right = await withStdin(`${SUDO_PASSWORD}\n`);
    assert.equal(right.status, 0, right.stderr);
    assert.doesNotMatch(right.stderr, /golden secret/);
    run('rm', output);
    for (const text of ['wrong\n', '']) {
      const { status, stderr } = await withStdin(text);
      assert.equal(status, REMOTE_REFUSED, stderr);
      assert.equal(existsSync(output), false);
    }
    await assertThawed(disk.mountPoint);
  });

  test('a host key that is not the known one ends before anything is sent', async () => {
    using disk = loopFilesystem();
    const words = ['--source', disk.mountPoint, '-o', join(disk.scratch, 'out.img')];
    const { status, stderr } = await startPull(daemon.wrongKeyConfig, 'root-device', ...words)
      .ended;
    assert.equal(status, SSH_FAILED, stderr);
    assert.match(stderr, /Host key verification failed/);
    await assertThawed(disk.mountPoint);
  });

  test('a path that is not there is named', async () => {
    const words = ['--source', '/no/such place', '-o', '/dev/null'];
    const { status, stderr } = await startPull(daemon.config, 'root-device', ...words).ended;
    assert.equal(status, SOURCE_NOT_FOUND, stderr);
    assert.match(stderr, /\/no\/such place/);
  });

  test('what somebody else froze stays frozen and is not copied', async () => {
    using disk = loopFilesystem();
    run('fsfreeze', '-f', disk.mountPoint);
    const output = join(disk.scratch, 'out.img');
    const { status, stderr } = await pull(disk, 'root-device', '-o', output).ended;
    assert.equal(status, SOURCE_FROZEN, stderr);
    // Fails when it is not frozen any more.
    run('fsfreeze', '-u', disk.mountPoint);
  });

  test('an output on the filesystem that would freeze is refused', async () => {
    using disk = loopFilesystem();
    const output = join(disk.mountPoint, 'out.img');
    const { status, stderr } = await pull(disk, 'root-device', '-o', output).ended;
    assert.equal(status, TARGET_WOULD_FREEZE, stderr);
    await assertThawed(disk.mountPoint);
  });

  test('a stream that is cut is seen, and leaves no file', async () => {
    using disk = loopFilesystem();
    writeFileSync(join(disk.mountPoint, 'data'), randomBytes(24 * 1024 * 1024));
    const programs = join(disk.scratch, 'bin');
    mkdirSync(programs);
    writeFileSync(
      join(programs, 'ssh'),
      '#!/bin/sh\n/usr/bin/ssh "$@" | dd bs=65536 count=80 2>/dev/null\n',
    );
    chmodSync(join(programs, 'ssh'), 0o755);
    const output = join(disk.scratch, 'out.img');
    const { status, stderr } = await startIngot(pullWords(disk, '--wire', 'none', '-o', output), {
      env: { PATH: `${programs}:${process.env['PATH'] ?? ''}` },
    }).ended;
    assert.ok(status === FREEZE_LOST || status === SOURCE_TRUNCATED, stderr);
    assert.equal(existsSync(output), false);
    await assertThawed(disk.mountPoint);
  });

  testFrozen('a killed ssh thaws at once and fails the capture', async ({ command, disk }) => {
    process.kill(childOf(command.pid, 'ssh'), 'SIGKILL');
    assert.ok(await settlesWithin(startWriter(disk.mountPoint).done, 4000), 'still frozen');
  });

  testFrozen('a killed ingot thaws at once', async ({ command, disk }) => {
    process.kill(command.pid, 'SIGKILL');
    assert.ok(await settlesWithin(startWriter(disk.mountPoint).done, 4000), 'still frozen');
  });

  testFrozen(
    'a cancelled ingot thaws, and says that it was cancelled',
    async ({ command, disk }) => {
      process.kill(command.pid, 'SIGINT');
      assert.ok(await settlesWithin(startWriter(disk.mountPoint).done, 4000), 'still frozen');
    },
    CANCELLED,
  );

  testFrozen('a still ssh thaws after the beats are missed', async ({ command, disk }) => {
    const ssh = childOf(command.pid, 'ssh');
    const sinceMs = performance.now();
    process.kill(ssh, 'SIGSTOP');
    try {
      const { done } = startWriter(disk.mountPoint);
      await assertSettlesBetween(done, { sinceMs, earliestMs: 2500, latestMs: 10_500 });
    } finally {
      process.kill(ssh, 'SIGCONT');
    }
  });

  testFrozen('a killed guard on the device thaws, and fails the capture', async ({ disk }) => {
    const guard = await eventually('a guard', () => guardOf(disk.mountPoint));
    process.kill(guard, 'SIGKILL');
    assert.ok(await settlesWithin(startWriter(disk.mountPoint).done, 4000), 'still frozen');
  });

  test('a pre-copy that is not done in time thaws at its limit', async () => {
    const thawed = async ({ disk }: Held): Promise<void> => {
      assert.ok(await settlesWithin(startWriter(disk.mountPoint).done, 6000), 'still frozen');
    };
    await whileFrozenAfterPrecopy(thawed, FREEZE_TIMEOUT, { maxFreeze: '1s' });
  });

  test('a connection that is lost before the freeze fails the capture', async () => {
    using disk = loopFilesystem();
    writeFileSync(join(disk.mountPoint, 'data'), randomBytes(8 * 1024 * 1024));
    using held = holdUp('zstd', disk);
    const output = join(disk.scratch, 'out.img');
    const command = startIngot(pullWords(disk, '--wire', 'zstd', '-o', output));
    await eventually('a transfer that waits', () => (held.isWaiting() ? true : undefined));
    await assertThawed(disk.mountPoint);
    process.kill(childOf(command.pid, 'ssh'), 'SIGKILL');
    const { status, stderr } = await command.ended;
    assert.equal(status, SOURCE_TRUNCATED, stderr);
    assert.equal(existsSync(output), false);
  });

  test('two snapshots under a writer have whole files only, and none of the first', async () => {
    using disk = loopFilesystem({ sizeMiB: 256 });
    writeTree(join(disk.mountPoint, 'tree'));
    const wanted = treeOf(join(disk.mountPoint, 'tree'));
    const folder = join(disk.mountPoint, 'written');
    mkdirSync(folder);
    const stop = join(disk.scratch, 'stop');
    const words = ['-c', WRITE_WHOLE_FILES, folder, stop];
    const writer = spawn('bash', words, { stdio: 'ignore' });
    try {
      const names: string[][] = [];
      for (const name of ['first', 'second']) {
        await eventually('files of the writer', () =>
          readdirSync(folder).length > 8 ? true : undefined,
        );
        const output = join(disk.scratch, name);
        const { status, stderr } = await startIngot(pullWords(disk, '-o', output)).ended;
        assert.equal(status, 0, stderr);
        run('e2fsck', '-fn', output);
        const copy = disk.mountImage(output, 'loop,ro');
        assert.deepEqual(differences(wanted, treeOf(join(copy, 'tree'))), []);
        const whole = readdirSync(join(copy, 'written')).filter((file) => !file.startsWith('.'));
        for (const file of whole) {
          const bytes = readFileSync(join(copy, 'written', file));
          assert.equal(createHash('md5').update(bytes).digest('hex'), file, `${file} in ${name}`);
        }
        names.push(whole);
        disk.unmountImages();
        for (const file of readdirSync(folder)) rmSync(join(folder, file), { force: true });
        run('sync', '-f', folder);
      }
      const [first = [], second = []] = names;
      assert.deepEqual(
        second.filter((file) => first.includes(file)),
        [],
        'files of the first snapshot that were removed are in the second',
      );
    } finally {
      // Killed, it would leave a child behind that holds the filesystem for a moment.
      const ended = once(writer, 'exit');
      writeFileSync(stop, '');
      await ended;
    }
  });
});

/** Writes files that are called by their digest, one after the other, up to 40 of them. */
const WRITE_WHOLE_FILES = `cd "$0"
while [ ! -e "$1" ]; do
  [ $(ls | wc -l) -lt 40 ] || { sleep 0.1; continue; }
  head -c $((RANDOM * 12)) /dev/urandom > .new
  sum=$(md5sum < .new)
  mv .new "\${sum%% *}"
done`;

function pullWords(disk: LoopFilesystem, ...options: string[]): string[] {
  const ssh = ['-S', '-F', '-S', daemon.config];
  return ['snapshot', 'pull', 'ssh://root-device', ...ssh, '--source', disk.mountPoint, ...options];
}

/** A daemon with a library of its own; disposing ends it. */
async function startLibrary(folder: string): Promise<
  AsyncDisposable & {
    ingot(...words: string[]): Promise<Ending & { readonly stdout: string }>;
  }
> {
  const env = { XDG_CONFIG_HOME: join(folder, 'config') };
  const words = ['serve', '--data', join(folder, 'library'), '--listen', '127.0.0.1:0'];
  const daemon = startIngot(words, { env });
  let said = '';
  daemon.child.stderr?.on('data', (text: string) => {
    said += text;
  });
  await eventually('the daemon listening', () => (said.includes('listening') ? true : undefined));
  return {
    ingot: async (...command) => {
      const file = join(folder, 'stdout');
      const fd = openSync(file, 'w');
      const ending = await startIngot(command, { env, stdout: fd }).ended;
      closeSync(fd);
      return { ...ending, stdout: readFileSync(file, 'utf8') };
    },
    [Symbol.asyncDispose]: async () => {
      daemon.child.kill('SIGTERM');
      await daemon.ended;
    },
  };
}

function pullWithStdin(disk: LoopFilesystem, stdin: string, output: string): Promise<Ending> {
  const words = ['snapshot', 'pull', 'ssh://golden-device', '-S', '-F', '-S', daemon.config];
  return startIngot([...words, '--source', disk.mountPoint, '-o', output], { stdin }).ended;
}

interface Held {
  readonly command: RunningCommand;
  readonly disk: LoopFilesystem;
}

/** A program of the device that a test makes wait; disposing lets it go on. */
interface HeldProgram extends Disposable {
  isWaiting(): boolean;
}

/** Puts a program over one of the device's. @returns its path */
function offer(name: string, script: string): string {
  const path = join(daemon.programs, name);
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
  return path;
}

/** Makes a program of the device wait, as long as a file is there. */
function holdUp(program: string, disk: LoopFilesystem): HeldProgram {
  const flag = join(disk.scratch, `hold-${program}`);
  writeFileSync(flag, '');
  return holdUpWhile(flag, program, disk);
}

/**
 * Makes a program of the device wait once the device has frozen: on a busy machine a pre-copy takes
 * so long that the live device is asked for digests too.
 */
function holdUpFrozen(
  program: string,
  disk: LoopFilesystem,
): HeldProgram & { hasFrozen(): boolean } {
  const flag = join(disk.scratch, `hold-${program}`);
  const fsfreeze = offer(
    'fsfreeze',
    `/usr/sbin/fsfreeze "$@" || exit\n[ "$1" != --freeze ] || : > ${flag}`,
  );
  const held = holdUpWhile(flag, program, disk);
  return {
    ...held,
    hasFrozen: () => existsSync(flag),
    [Symbol.dispose]: () => {
      rmSync(fsfreeze, { force: true });
      held[Symbol.dispose]();
    },
  };
}

function holdUpWhile(flag: string, program: string, disk: LoopFilesystem): HeldProgram {
  const waiting = join(disk.scratch, `waiting-${program}`);
  const path = offer(
    program,
    `while [ -e ${flag} ]; do : > ${waiting}; sleep 0.05; done\nexec /usr/bin/${program} "$@"`,
  );
  return {
    isWaiting: () => existsSync(waiting),
    [Symbol.dispose]: () => {
      rmSync(path, { force: true });
      rmSync(flag, { force: true });
    },
  };
}

/** A test per way that a capture holds a filesystem frozen. */
function testFrozen(
  name: string,
  body: (held: Held) => Promise<void>,
  exitStatus = FREEZE_LOST,
): void {
  test(`${name}, in a single pass`, () => whileFrozenInOnePass(body, exitStatus));
  test(`${name}, after a pre-copy`, () => whileFrozenAfterPrecopy(body, exitStatus));
}

/** Runs a body while a capture holds its filesystem frozen, because nobody reads its output. */
async function whileFrozenInOnePass(
  body: (held: Held) => Promise<void>,
  exitStatus: number,
): Promise<void> {
  using disk = loopFilesystem();
  writeFileSync(join(disk.mountPoint, 'data'), randomBytes(32 * 1024 * 1024));
  using pipe = openPipe(disk.scratch);
  const command = startIngot(pullWords(disk, '--no-precopy'), { stdout: pipe.writeEnd });
  pipe.started();
  await pipe.take(1024);
  await untilFrozen(disk.mountPoint);
  await body({ command, disk });
  // Takes the rest, so that a capture that goes on can end, and must not end well.
  const drained = drain(pipe, command);
  await assertBrokenOff({ command, disk }, exitStatus);
  await drained;
}

/** Runs a body while a capture holds its filesystem frozen, because the device cannot hash. */
async function whileFrozenAfterPrecopy(
  body: (held: Held) => Promise<void>,
  exitStatus: number,
  { maxFreeze }: { readonly maxFreeze?: string } = {},
): Promise<void> {
  using disk = loopFilesystem();
  writeFileSync(join(disk.mountPoint, 'data'), randomBytes(8 * 1024 * 1024));
  using held = holdUpFrozen('b2sum', disk);
  const output = join(disk.scratch, 'out.img');
  const limit = maxFreeze === undefined ? [] : ['--max-freeze', maxFreeze];
  const command = startIngot(pullWords(disk, '-o', output, ...limit));
  await eventually('a freeze', () => (held.hasFrozen() ? true : undefined));
  if (maxFreeze === undefined) {
    await eventually('digests that wait', () => (held.isWaiting() ? true : undefined));
    await untilFrozen(disk.mountPoint);
  }
  await body({ command, disk });
  held[Symbol.dispose]();
  await assertBrokenOff({ command, disk }, exitStatus);
  assert.equal(existsSync(output), false);
}

async function assertBrokenOff({ command, disk }: Held, exitStatus: number): Promise<void> {
  const { status, signal, stderr } = await command.ended;
  if (signal === null) assert.equal(status, exitStatus, stderr);
  await assertThawed(disk.mountPoint);
  await eventually('the end of everything on the device', () =>
    holdersOf(disk.mountPoint).length === 0 ? true : undefined,
  );
}

async function drain(
  pipe: { take(lengthBytes: number): Promise<Buffer>; hangUp(): void },
  command: RunningCommand,
): Promise<void> {
  let isOver = false;
  const over = command.ended.then(() => {
    isOver = true;
  });
  while (!isOver) {
    await Promise.race([pipe.take(1024 * 1024).catch(() => sleep(20)), over]);
  }
}
