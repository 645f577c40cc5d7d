import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  statfsSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { MIB } from '../../src/base/index.ts';
import { numberIn, startBusyWriter, writerPasses } from './busy-writer.ts';
import { eventually, ingot, settlesWithin, startIngot, startWriter } from './ingot-command.ts';
import {
  differences,
  type LoopFilesystem,
  type LoopKind,
  loopFilesystem,
  run,
  treeOf,
} from './loop-filesystem.ts';

/** Files that stay, beside those that the writer changes all the time. */
function writeStill(disk: LoopFilesystem): string {
  const still = join(disk.mountPoint, 'still');
  mkdirSync(still);
  for (let i = 0; i < 200; i++) writeFileSync(join(still, `${i}`), randomBytes(1000 + i * 300));
  writeFileSync(join(still, 'large'), randomBytes(12 * MIB));
  return still;
}

/** Compares an image with the filesystem that it was taken of. */
function checkInstant(disk: LoopFilesystem, image: string, options: string): number {
  const folder = disk.mountImage(image, options);
  const trees = [disk.mountPoint, folder].map((root) => treeOf(join(root, 'still')));
  const [wanted = new Map<string, string>(), found = wanted] = trees;
  assert.deepEqual(differences(wanted, found), []);
  const [first = 0, second = 0] = ['first', 'second'].map((name) => numberIn(join(folder, name)));
  assert.ok(first === second || first === second + 1, `${first} and ${second}`);
  disk.unmountImages();
  return second;
}

const CHECKS: Readonly<Record<'ext4' | 'xfs', { options: string; check: string[] }>> = {
  ext4: { options: 'loop,ro,noload', check: ['e2fsck', '-fn'] },
  xfs: { options: 'loop,nouuid', check: ['xfs_repair', '-n', '-f'] },
};

describe('a dump to a file, in several passes', () => {
  for (const [kind, { options, check }] of Object.entries(CHECKS)) {
    test(`${kind}: is one instant of a filesystem in use, twice`, async () => {
      using disk = loopFilesystem({ kind: kind as LoopKind, sizeMiB: kind === 'xfs' ? 320 : 128 });
      const still = writeStill(disk);
      await using _writer = await startBusyWriter(disk.mountPoint);
      let last = 0;
      for (const round of [1, 2]) {
        writeFileSync(join(still, 'round'), randomBytes(50_000));
        await writerPasses(disk.mountPoint, last);
        const image = join(disk.scratch, `round-${round}.img`);
        const words = ['snapshot', 'dump', '--source', disk.mountPoint, '-o', image, '--json'];
        const { status, stderr } = await ingot(...words);
        assert.equal(status, 0, stderr);
        const { capture } = JSON.parse(stderr.trim().split('\n').at(-1) ?? '');
        assert.equal(capture.consistency, 'frozen');
        const second = checkInstant(disk, image, options);
        const [program = '', ...words2] = check;
        run(program, ...words2, image);
        assert.ok(second > last, `${second} after ${last}`);
        last = second;
      }
    });
  }

  test('a device and a redirected file get the same, whatever they held before', async () => {
    using disk = loopFilesystem({ sizeMiB: 64 });
    writeStill(disk);
    writeFileSync(join(disk.mountPoint, 'first'), '1');
    writeFileSync(join(disk.mountPoint, 'second'), '1');
    const noise = join(disk.scratch, 'noise.img');
    writeFileSync(noise, randomBytes(64 * MIB));
    const device = run('losetup', '--find', '--show', noise).trim();
    try {
      const words = ['snapshot', 'dump', '--source', disk.mountPoint];
      const { status, stderr } = await ingot(...words, '-o', device);
      assert.equal(status, 0, stderr);
      run('blockdev', '--flushbufs', device);
      checkInstant(disk, device, 'ro,noload');
      const redirected = join(disk.scratch, 'redirected.img');
      writeFileSync(redirected, 'what stood here before');
      const fd = openSync(redirected, 'r+');
      assert.equal((await startIngot(words, { stdout: fd }).ended).status, 0);
      closeSync(fd);
      checkInstant(disk, redirected, 'loop,ro,noload');
      assert.ok(statSync(redirected).blocks * 512 < 40 * MIB, 'it is not sparse');
    } finally {
      spawnSync('losetup', ['--detach', device]);
    }
  });

  test('whose room somebody else takes leaves no file and nothing frozen', async () => {
    using disk = loopFilesystem({ sizeMiB: 128 });
    using small = loopFilesystem({ sizeMiB: 128, mkfsOptions: ['-m', '0'] });
    writeFileSync(join(disk.mountPoint, 'large'), randomBytes(64 * MIB));
    const output = join(small.mountPoint, 'a.img');
    const filler = join(small.mountPoint, 'filler');
    // Written to: before, it has not looked yet how much room there is.
    const isBegun = () =>
      readdirSync(small.mountPoint)
        .filter((name) => name.startsWith('.a.img.'))
        .map((name) => statSync(join(small.mountPoint, name), { throwIfNoEntry: false }))
        .some((stat) => (stat?.blocks ?? 0) > 0);
    let status: number | null = 0;
    // A dump that was done before its room was gone says nothing.
    for (let round = 0; status === 0 && round < 10; round += 1) {
      const dump = startIngot(['snapshot', 'dump', '--source', disk.mountPoint, '-o', output]);
      await eventually('a partial file', () =>
        isBegun() || dump.child.exitCode !== null ? true : undefined,
      );
      const { bavail, bsize } = statfsSync(small.mountPoint);
      spawnSync('fallocate', ['-l', String(Math.max(bsize, bavail * bsize - MIB)), filler]);
      const ending = await dump.ended;
      status = ending.status;
      assert.ok(status === 0 || status === 52, ending.stderr);
      run('rm', '-f', filler, ...(status === 0 ? [output] : []));
    }
    assert.equal(status, 52);
    assert.deepEqual(readdirSync(small.mountPoint), ['lost+found']);
    assert.ok(await settlesWithin(startWriter(disk.mountPoint).done, 5000), 'still frozen');
  });

  test('--max-freeze ends it, and the writer goes on', async () => {
    using disk = loopFilesystem({ sizeMiB: 128 });
    writeFileSync(join(disk.mountPoint, 'data'), randomBytes(64 * MIB));
    const image = join(disk.scratch, 'a.img');
    const words = ['snapshot', 'dump', '--source', disk.mountPoint, '--max-freeze', '1ms'];
    const { status, stderr } = await ingot(...words, '-o', image);
    assert.equal(status, 48, stderr);
    assert.deepEqual(
      readdirSync(disk.scratch).filter((name) => name.includes('a.img')),
      [],
    );
    assert.ok(await settlesWithin(startWriter(disk.mountPoint).done, 5000));
  });
});
