import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { settlesWithin, startIngot, startWriter } from './ingot-command.ts';
import { type LoopFilesystem, loopFilesystem, run } from './loop-filesystem.ts';
import { type SshDaemon, sshDaemonIsMissing, startSshDaemon } from './ssh-daemon.ts';

const missing = sshDaemonIsMissing();
const REQUEST_INVALID = 72;
let daemon: SshDaemon;

async function ingot(...args: string[]): Promise<void> {
  const { status, stderr } = await startIngot(args).ended;
  assert.equal(status, 0, stderr);
}

function filled(disk: LoopFilesystem): void {
  for (let i = 0; i < 20; i++) {
    writeFileSync(join(disk.mountPoint, `file-${i}`), randomBytes(50_000 + i * 999));
  }
  run('sync', '-f', disk.mountPoint);
}

describe('an artifact of what is mounted here', () => {
  const write = ['artifact', 'write', 'rootfs-image', '-n', 'r1', '-c', 'qemu'];

  test('is the one of a dump of it, of the mount point and of the device', async () => {
    using disk = loopFilesystem({ sizeMiB: 48 });
    filled(disk);
    run('mount', '-o', 'remount,ro', disk.mountPoint);
    const image = join(disk.scratch, 'rootfs.ext4');
    await ingot('snapshot', 'dump', '--source', disk.mountPoint, '-o', image);
    const dumped = join(disk.scratch, 'dumped.mender');
    await ingot(...write, '-f', image, '-o', dumped);
    for (const source of [disk.mountPoint, disk.device]) {
      const direct = join(disk.scratch, 'direct.mender');
      await ingot(...write, '-f', source, '-o', direct);
      assert.ok(readFileSync(direct).equals(readFileSync(dumped)), source);
    }
    const zstd = join(disk.scratch, 'zstd.mender');
    await ingot(...write, '-f', disk.mountPoint, '--compression', 'zstd_fast', '-o', zstd);
    await ingot('artifact', 'validate', zstd);
  });

  test('is of one instant, and the filesystem goes on being written', async () => {
    using disk = loopFilesystem({ sizeMiB: 48 });
    filled(disk);
    const output = join(disk.scratch, 'live.mender');
    const { stderr, status } = await startIngot([...write, '-f', disk.mountPoint, '-o', output])
      .ended;
    assert.equal(status, 0, stderr);
    assert.match(stderr, /consistency: frozen/);
    assert.ok(await settlesWithin(startWriter(disk.mountPoint).done, 5000), 'it is still frozen');
    await ingot('artifact', 'dump', '--files', join(disk.scratch, 'files'), output);
    const [name = ''] = readdirSync(join(disk.scratch, 'files'));
    run('e2fsck', '-fn', join(disk.scratch, 'files', name));
  });

  test('does not freeze the filesystem that it is written to', async () => {
    using disk = loopFilesystem({ sizeMiB: 48 });
    const output = join(disk.mountPoint, 'own.mender');
    const { status } = await startIngot([...write, '-f', disk.mountPoint, '-o', output]).ended;
    assert.notEqual(status, 0);
    assert.deepEqual(
      readdirSync(disk.mountPoint).filter((name) => name.includes('own')),
      [],
    );
  });
});

describe('an artifact of a device over ssh', { skip: missing ?? false }, () => {
  before(async () => {
    daemon = await startSshDaemon();
  });
  after(async () => {
    await daemon[Symbol.asyncDispose]();
  });

  test('is the one of a dump of it, and the device goes on writing', async () => {
    using disk = loopFilesystem({ sizeMiB: 48 });
    filled(disk);
    // Read-only: two snapshots of a mounted filesystem differ in its superblock otherwise.
    run('mount', '-o', 'remount,ro', disk.mountPoint);
    const write = ['artifact', 'write', 'rootfs-image', '-n', 'r1', '-c', 'qemu'];
    const direct = join(disk.scratch, 'direct.mender');
    const ssh = ['-S', '-F', '-S', daemon.config, '--source', disk.mountPoint];
    await ingot(...write, '-f', 'ssh://root-device', ...ssh, '-o', direct);
    const image = join(disk.scratch, 'rootfs.ext4');
    await ingot('snapshot', 'dump', '--source', disk.mountPoint, '-o', image);
    const dumped = join(disk.scratch, 'dumped.mender');
    await ingot(...write, '-f', image, '-o', dumped);
    assert.ok(readFileSync(direct).equals(readFileSync(dumped)));
    await ingot('artifact', 'validate', direct);
    const onePass = join(disk.scratch, 'one-pass.mender');
    const flags = ['--no-precopy', '--wire', 'none', '--max-freeze', '1m'];
    await ingot(...write, '-f', 'ssh://root-device', ...ssh, ...flags, '-o', onePass);
    assert.ok(readFileSync(onePass).equals(readFileSync(dumped)));
    // What needs two passes is spooled here, and the device is read once.
    const zstd = join(disk.scratch, 'zstd.mender');
    const coded = ['--compression', 'zstd_fast', '-o', zstd];
    await ingot(...write, '-f', 'ssh://root-device', ...ssh, ...coded);
    await ingot('artifact', 'validate', zstd);
    run('mount', '-o', 'remount,rw', disk.mountPoint);
    assert.ok(await settlesWithin(startWriter(disk.mountPoint).done, 5000), 'it is still frozen');
  });

  test('has flags that are refused where they would be ignored', async () => {
    using disk = loopFilesystem({ sizeMiB: 32 });
    const write = ['artifact', 'write', 'rootfs-image', '-n', 'r1', '-c', 'qemu', '-f', disk.image];
    const output = join(disk.scratch, 'none.mender');
    for (const flags of [['--no-precopy'], ['--wire', 'gzip'], ['--resume', 'kept']]) {
      const { status, stderr } = await startIngot([...write, ...flags, '-o', output]).ended;
      assert.equal(status, REQUEST_INVALID, stderr);
      assert.match(stderr, /is for ssh:\/\/ only/);
    }
  });

  test('is not there when the device cannot be reached', async () => {
    using disk = loopFilesystem({ sizeMiB: 32 });
    const ssh = ['-S', '-F', '-S', daemon.config, '--source', disk.mountPoint];
    const output = join(disk.scratch, 'none.mender');
    const write = ['artifact', 'write', 'rootfs-image', '-n', 'r1', '-c', 'qemu', '-o', output];
    const { status } = await startIngot([...write, '-f', 'ssh://nowhere.invalid', ...ssh]).ended;
    assert.equal(status, 80);
    assert.deepEqual(
      readdirSync(disk.scratch).filter((name) => name.includes('none')),
      [],
    );
  });
});
