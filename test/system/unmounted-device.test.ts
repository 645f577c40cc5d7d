import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { ingot } from './ingot-command.ts';
import {
  differences,
  type LoopFilesystem,
  loopFilesystem,
  run,
  treeOf,
} from './loop-filesystem.ts';

const NOT_ROOT = 55;
const MAIN = join(import.meta.dirname, '../../src/start/cli/main.ts');

/** A filesystem whose machine lost its power: what was forced out is only in the journal. */
function unclean(disk: LoopFilesystem): void {
  for (let i = 0; i < 40; i++)
    writeFileSync(join(disk.mountPoint, `old-${i}`), randomBytes(20_000));
  run('sync', '-f', disk.mountPoint);
  for (let i = 0; i < 40; i += 2) run('rm', join(disk.mountPoint, `old-${i}`));
  for (let i = 0; i < 40; i++) {
    const fd = openSync(join(disk.mountPoint, `new-${i}`), 'w');
    writeSync(fd, randomBytes(30_000));
    fsyncSync(fd);
    closeSync(fd);
  }
  // Without a flush of the journal. @see xfs_io(8) shutdown, which ext4 has as well
  run('xfs_io', '-x', '-c', 'shutdown', disk.mountPoint);
  run('umount', disk.mountPoint);
}

/** The disk as a device that nobody has mounted; disposing detaches it. */
function attach(image: string): { readonly device: string } & Disposable {
  const device = run('losetup', '--find', '--show', image).trim();
  return {
    device,
    [Symbol.dispose]: () => {
      spawnSync('losetup', ['--detach', device]);
    },
  };
}

async function dumpDevice(device: string, image: string, ...options: string[]) {
  const words = ['snapshot', 'dump', '--source', device, '-o', image, '--json'];
  const { status, stderr } = await ingot(...words, ...options);
  assert.equal(status, 0, stderr);
  return JSON.parse(stderr.trim().split('\n').at(-1) ?? '');
}

describe('a dump of a device that is not mounted', () => {
  test('whose ext4 needs recovery has everything, and the journal brings the files back', async () => {
    using disk = loopFilesystem({ sizeMiB: 64 });
    unclean(disk);
    using attached = attach(disk.image);
    const image = join(disk.scratch, 'a.img');
    const report = await dumpDevice(attached.device, image);
    assert.match(report.notices.join('\n'), /ext4: .*recovery.*everything is copied/);
    assert.equal(report.capture.consistency, 'crash-consistent');
    run('cmp', disk.image, image);
    const copy = disk.mountImage(image, 'loop');
    const original = join(disk.scratch, 'original.img');
    run('cp', disk.image, original);
    const wanted = disk.mountImage(original, 'loop');
    const tree = treeOf(copy);
    assert.deepEqual(differences(treeOf(wanted), tree), []);
    assert.ok(tree.has('/new-39') && !tree.has('/old-0') && tree.has('/old-1'));
  });

  test('has the exact bytes of the device with --free-space keep, and with --verbatim', async () => {
    using disk = loopFilesystem({ sizeMiB: 32 });
    writeFileSync(join(disk.mountPoint, 'a'), randomBytes(2_000_000));
    run('sync', '-f', disk.mountPoint);
    run('rm', join(disk.mountPoint, 'a'));
    run('umount', disk.mountPoint);
    using attached = attach(disk.image);
    const image = join(disk.scratch, 'a.img');
    for (const options of [['--free-space', 'keep'], ['--verbatim']]) {
      const report = await dumpDevice(attached.device, image, ...options);
      assert.equal(report.capture.freeSpace, 'keep');
      run('cmp', disk.image, image);
    }
    await dumpDevice(attached.device, image);
    assert.equal(spawnSync('cmp', ['-s', disk.image, image]).status, 1, 'free blocks came along');
  });

  test('is refused to who is not root, before anything is frozen or written', {
    skip: asNobody(MAIN, '--version').status === 0 ? false : 'nobody may not read this folder',
  }, () => {
    using disk = loopFilesystem({ sizeMiB: 16 });
    chmodSync(disk.scratch, 0o777);
    const image = join(disk.scratch, 'a.img');
    for (const source of [disk.mountPoint, disk.device]) {
      const words = ['snapshot', 'dump', '--source', source, '-o', image];
      const { status, stderr } = asNobody(MAIN, ...words);
      assert.equal(status, NOT_ROOT, stderr);
      assert.equal(existsSync(image), false);
    }
  });
});

/** Runs Node as a user who may do nothing. */
function asNobody(...words: string[]): { readonly status: number | null; readonly stderr: string } {
  const nobody = ['--reuid', '65534', '--regid', '65534', '--clear-groups'];
  const node = [process.execPath, '--disable-warning=ExperimentalWarning', ...words];
  const env = { ...process.env, HOME: '/nonexistent' };
  return spawnSync('setpriv', [...nobody, ...node], { encoding: 'utf8', env });
}
