import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { MIB } from '../../src/base/index.ts';
import { ingot } from './ingot-command.ts';
import {
  differences,
  type LoopFilesystem,
  loopFilesystem,
  run,
  treeOf,
} from './loop-filesystem.ts';

/** A disk on a loop device; disposing takes it away with what is mounted from it. */
function loopDisk(
  scratch: string,
  { table, sectorBytes = 512 }: { readonly table: string; readonly sectorBytes?: number },
): { readonly device: string; mount(number: number): string } & Disposable {
  const image = join(scratch, 'disk.img');
  writeFileSync(image, '');
  truncateSync(image, 120 * MIB);
  const losetup = ['--find', '--show', '--sector-size', String(sectorBytes), image];
  const device = run('losetup', ...losetup).trim();
  run('sh', '-c', 'printf "$1" | sfdisk -q "$0"', device, table);
  // Not every kernel reads partition tables of loop devices by itself.
  spawnSync('partx', ['--add', device]);
  const mounted: string[] = [];
  return {
    device,
    mount: (number) => {
      const folder = join(scratch, `part-${number}`);
      mkdirSync(folder);
      run('mount', `${device}p${number}`, folder);
      mounted.push(folder);
      return folder;
    },
    [Symbol.dispose]: () => {
      for (const folder of mounted) {
        spawnSync('fsfreeze', ['-u', folder]);
        spawnSync('umount', [folder]);
      }
      spawnSync('partx', ['--delete', device]);
      spawnSync('losetup', ['--detach', device]);
    },
  };
}

/** The files of a partition in an image. */
function filesAt(beside: LoopFilesystem, image: string, options: string): Map<string, string> {
  try {
    return treeOf(beside.mountImage(image, `loop,ro,${options}`));
  } finally {
    beside.unmountImages();
  }
}

function fill(folder: string): void {
  for (let i = 0; i < 20; i++) writeFileSync(join(folder, `${i}`), randomBytes(9000 + i * 1000));
}

describe('a whole disk', () => {
  test('whose MBR counts sectors of 4096 bytes is copied by its filesystems', async () => {
    using beside = loopFilesystem({ sizeMiB: 16 });
    const table = 'label: dos\\nstart=2048, size=8192, type=83\\n';
    using disk = loopDisk(beside.scratch, { table, sectorBytes: 4096 });
    run('mkfs.ext4', '-q', `${disk.device}p1`);
    const folder = disk.mount(1);
    const secret = `secret-${randomBytes(8).toString('hex')}`;
    writeFileSync(join(folder, 'secret'), `${secret}\n`.repeat(100_000));
    run('sync', '-f', folder);
    run('rm', join(folder, 'secret'));
    fill(folder);
    const copy = join(beside.scratch, 'copy.img');
    const words = ['snapshot', 'dump', '--source', disk.device, '-o', copy, '--json'];
    const { status, stderr } = await ingot(...words);
    assert.equal(status, 0, stderr);
    const report = JSON.parse(stderr.trim().split('\n').at(-1) ?? '');
    assert.deepEqual(report.notices, []);
    assert.equal(spawnSync('grep', ['-q', secret, copy]).status, 1, 'what was deleted came along');
    const options = `noload,offset=${8 * MIB},sizelimit=${32 * MIB}`;
    const files = treeOf(folder);
    assert.deepEqual(differences(files, filesAt(beside, copy, options)), []);

    // The file of such a disk does not tell what its table counts in.
    disk[Symbol.dispose]();
    const image = join(beside.scratch, 'disk.img');
    const again = join(beside.scratch, 'again.img');
    assert.equal(spawnSync('grep', ['-q', secret, image]).status, 0);
    const fromFile = ['--source', image, '--free-space', 'zero', '-o', again, '--json'];
    const second = await ingot('snapshot', 'dump', ...fromFile);
    assert.equal(second.status, 0, second.stderr);
    assert.deepEqual(JSON.parse(second.stderr.trim().split('\n').at(-1) ?? '').notices, []);
    assert.equal(spawnSync('grep', ['-q', secret, again]).status, 1, 'what was deleted came along');
    assert.deepEqual(differences(files, filesAt(beside, again, options)), []);
  });

  test('with a mounted ext2 is frozen, and the ext2 copied whole and said', async () => {
    using beside = loopFilesystem({ sizeMiB: 16 });
    const table = 'label: gpt\\nsize=32MiB\\nsize=32MiB\\n';
    using disk = loopDisk(beside.scratch, { table });
    run('mkfs.ext4', '-q', `${disk.device}p1`);
    run('mkfs.ext2', '-q', `${disk.device}p2`);
    const folders = [1, 2].map((number) => disk.mount(number));
    for (const folder of folders) fill(folder);
    const copy = join(beside.scratch, 'copy.img');
    const notices = await dumpDisk(disk.device, copy);
    assert.match(notices, /partition 2: ext2.*everything is copied/);
    for (const [i, folder] of folders.entries()) {
      const load = i === 0 ? 'noload,' : '';
      const options = `${load}offset=${(1 + 32 * i) * MIB},sizelimit=${32 * MIB}`;
      assert.deepEqual(differences(treeOf(folder), filesAt(beside, copy, options)), [], folder);
    }
  });

  test('with a mounted squashfs is frozen without it', {
    skip: existsSync('/usr/bin/mksquashfs') ? false : 'not installed: mksquashfs',
  }, async () => {
    using beside = loopFilesystem({ sizeMiB: 16 });
    using disk = loopDisk(beside.scratch, { table: 'label: gpt\\nsize=32MiB\\nsize=32MiB\\n' });
    const content = join(beside.scratch, 'content');
    mkdirSync(content);
    fill(content);
    run('mksquashfs', content, `${disk.device}p1`, '-noappend', '-quiet', '-no-progress');
    run('mkfs.ext4', '-q', `${disk.device}p2`);
    const folders = [1, 2].map((number) => disk.mount(number));
    fill(folders[1] ?? '');
    const copy = join(beside.scratch, 'copy.img');
    await dumpDisk(disk.device, copy);
    const options = `offset=${MIB},sizelimit=${32 * MIB}`;
    const found = filesAt(beside, copy, options);
    assert.deepEqual(differences(treeOf(folders[0] ?? ''), found), []);
  });
});

/** Dumps a disk, which must have been frozen. @returns what was noticed */
async function dumpDisk(device: string, copy: string): Promise<string> {
  const words = ['snapshot', 'dump', '--source', device, '-o', copy, '--json'];
  const { status, stderr } = await ingot(...words);
  assert.equal(status, 0, stderr);
  const report = JSON.parse(stderr.trim().split('\n').at(-1) ?? '');
  assert.equal(report.capture.consistency, 'frozen');
  return report.notices.join('\n');
}
