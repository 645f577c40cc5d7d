import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  rmSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { takesDirectWrites } from '../../src/capture/adapters/direct-writer.ts';
import { type ChildDaemon, daemonFolder } from './child-daemon.ts';
import { eventually, type RunningCommand, startIngot } from './ingot-command.ts';
import { loopFilesystem } from './loop-filesystem.ts';

const MIB = 1024 * 1024;
const NOBODY = 65_534;
const folder = mkdtempSync(join(tmpdir(), 'ingot-output-'));
mkdirSync(join(folder, 'own'));
mkdirSync(join(folder, 'other'));
mkdirSync(join(folder, 'out'));
// The daemon of another user finds its own below, and may not look into the outputs.
chmodSync(folder, 0o711);
chmodSync(join(folder, 'out'), 0o700);
chownSync(join(folder, 'other'), NOBODY, NOBODY);
const asNobody = ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'];
const ofNobody = daemonFolder(join(folder, 'other'), asNobody);
const daemons = daemonFolder(join(folder, 'own'));
after(() => {
  daemons.killAll();
  ofNobody.killAll();
  rmSync(folder, { recursive: true, force: true });
});
const skip = (await takesDirectWrites(folder)) ? false : `${tmpdir()} takes no direct writes`;

/** A checkout may lie where only its owner looks. */
const nobodySkip = [
  process.execPath,
  join(import.meta.dirname, '../../src/start/cli/main.ts'),
].every((path) => spawnSync('setpriv', [...asNobody.slice(1), 'test', '-r', path]).status === 0)
  ? false
  : 'another user may not read the program';

const output = join(folder, 'out', 'x.mender');
let imageId = '';

function writing(
  daemon: ChildDaemon,
  path = output,
  { stdout, image = imageId }: { readonly stdout?: number; readonly image?: string } = {},
): RunningCommand {
  const words = ['artifact', 'write', 'rootfs-image', '-n', 'r', '-c', 'd', '--no-progress'];
  return startIngot([...words, '-f', image, '-o', path], {
    env: daemon.env,
    ...(stdout === undefined ? {} : { stdout }),
  });
}

/** Imports noise, which is as long when it is coded: long enough to meet its writing in the middle. */
async function imported(daemon: ChildDaemon, pieces: number): Promise<string> {
  const disk = join(folder, 'disk.raw');
  await using file = await open(disk, 'w');
  for (let i = 0; i < pieces; i++) await file.write(randomBytes(8 * MIB));
  const words = ['images', 'import', disk, '--name', 'disk', '--quiet'];
  const command = startIngot(words, { env: daemon.env, stdout: 'pipe' });
  let text = '';
  command.child.stdout?.setEncoding('utf8').on('data', (some: string) => {
    text += some;
  });
  const { status, stderr } = await command.ended;
  assert.equal(status, 0, stderr);
  rmSync(disk);
  return text.trim();
}

/** How often a process has a part of the output open. */
function holdCount(pid: number): number {
  const fds = `/proc/${pid}/fd`;
  return readdirSync(fds).filter((fd) => {
    try {
      return basename(readlinkSync(join(fds, fd))).startsWith('.x.mender.');
    } catch {
      return false;
    }
  }).length;
}

const isHeld = (daemon: ChildDaemon): Promise<true> =>
  eventually('the daemon has the output open', () => holdCount(daemon.pid) === 2 || undefined);

const isLetGo = (daemon: ChildDaemon): Promise<true> =>
  eventually('the daemon closes the output', () => holdCount(daemon.pid) === 0 || undefined);

const left = (): string[] => readdirSync(join(folder, 'out'));

/** Whether the last of what a killed command left was never written: a space that is kept reads so. */
async function endIsUnwritten(): Promise<boolean> {
  const [name = ''] = left();
  await using part = await open(join(folder, 'out', name));
  const end = Buffer.alloc(MIB, 1);
  await part.read(end, 0, MIB, (await part.stat()).size - 2 * MIB);
  return end.equals(Buffer.alloc(MIB));
}

async function digestOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  await using file = await open(path);
  for await (const bytes of file.createReadStream()) hash.update(bytes as Buffer);
  return hash.digest('hex');
}

describe('an artifact that a daemon of this machine writes into its file', { skip }, () => {
  let daemon: ChildDaemon;
  let sent = '';
  before(async () => {
    daemon = await daemons.start();
    imageId = await imported(daemon, 24);
    await using pipe = await open(join(folder, 'sent.mender'), 'w');
    const { status, stderr } = await writing(daemon, '-', { stdout: pipe.fd }).ended;
    assert.equal(status, 0, stderr);
    sent = await digestOf(join(folder, 'sent.mender'));
    rmSync(join(folder, 'sent.mender'));
  });
  after(() => daemon.end('SIGTERM'));
  afterEach(() => {
    for (const name of left()) rmSync(join(folder, 'out', name));
  });

  test('has the same bytes as one that it sends', async () => {
    const command = writing(daemon);
    await isHeld(daemon);
    const { status, stderr } = await command.ended;
    assert.equal(status, 0, stderr);
    assert.equal(holdCount(daemon.pid), 0);
    assert.equal(await digestOf(output), sent);
    assert.deepEqual(left(), ['x.mender']);
  });

  test('is given up when the command is killed, and the daemon goes on', async () => {
    // A busy machine may see the output only when it is nearly whole.
    for (let attempt = 0; ; attempt++) {
      for (const name of left()) rmSync(join(folder, 'out', name));
      const command = writing(daemon);
      await isHeld(daemon);
      daemon.signal('SIGSTOP');
      command.child.kill('SIGKILL');
      await command.ended;
      daemon.signal('SIGCONT');
      await isLetGo(daemon);
      if (await endIsUnwritten()) break;
      assert.ok(attempt < 5, 'the daemon writes on for a command that is gone');
    }
    const { status, stderr } = await writing(daemon).ended;
    assert.equal(status, 0, stderr);
    assert.equal(await digestOf(output), sent);
  });

  test('leaves nothing when the command is interrupted', async () => {
    const command = writing(daemon);
    await isHeld(daemon);
    command.child.kill('SIGINT');
    const { status } = await command.ended;
    assert.equal(status, 130);
    assert.deepEqual(left(), []);
    await isLetGo(daemon);
  });

  test('leaves nothing of a daemon that is killed, when nobody waits for the next', async () => {
    const command = writing(daemon);
    await isHeld(daemon);
    await daemon.end('SIGKILL');
    command.child.kill('SIGINT');
    const { status, stderr } = await command.ended;
    assert.equal(status, 130, stderr);
    assert.deepEqual(left(), []);
    daemon = await daemons.start();
  });

  test('is sent by the daemon that follows one that was killed', async () => {
    const command = writing(daemon);
    await isHeld(daemon);
    // Its port is free at once, and the command asks it again soon.
    await daemon.end('SIGKILL');
    daemon = await daemons.start('--listen', daemon.url.replace('http://', ''));
    const { status, stderr } = await command.ended;
    assert.equal(status, 0, stderr);
    assert.equal(await digestOf(output), sent);
  });

  test('is not begun on a disk that has no room for it', async () => {
    using small = loopFilesystem({ sizeMiB: 128 });
    const { status, stderr } = await writing(daemon, join(small.mountPoint, 'x.mender')).ended;
    assert.equal(status, 52, stderr);
    assert.match(stderr, /x\.mender has no space left/);
    assert.deepEqual(
      readdirSync(small.mountPoint).filter((name) => name !== 'lost+found'),
      [],
    );
    assert.equal(holdCount(daemon.pid), 0);
  });

  test('is written by a daemon of another user, which may not open it', {
    skip: nobodySkip,
  }, async () => {
    const other = await ofNobody.start();
    const image = await imported(other, 4);
    const command = writing(other, output, { image });
    await isHeld(other);
    const { status, stderr } = await command.ended;
    assert.equal(status, 0, stderr);
    await other.end('SIGTERM');
  });

  test('is sent onto a filesystem that does not suit', async () => {
    const path = `/dev/shm/ingot-output-${process.pid}.mender`;
    try {
      const { status, stderr } = await writing(daemon, path).ended;
      assert.equal(status, 0, stderr);
      assert.equal(await digestOf(path), sent);
    } finally {
      rmSync(path, { force: true });
    }
  });
});
