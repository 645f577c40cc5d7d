import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';

import { type FailureCode, isFailure, MIB } from '../../src/base/index.ts';
import { openChunkWorkers } from '../../src/keep/adapters/thread-chunk-workers.ts';
import { zlibSegmentCodec } from '../../src/keep/adapters/zlib-segment-codec.ts';
import { restoreImage, verifyTarget } from '../../src/publish/index.ts';
import { openRestoreTarget } from '../../src/publish/restore/adapters/restore-target.ts';
import { restoreTargetContract } from '../contracts/restore-target.ts';
import { MemoryFeed } from '../fakes/memory-feed.ts';
import { loopFilesystem } from './loop-filesystem.ts';

/** A loop device over a file of its own; both are gone after disposal. */
interface LoopDisk extends AsyncDisposable {
  readonly device: string;
  readonly backing: string;
  readonly folder: string;
}

function loopDisk(sizeBytes: number, ...losetup: string[]): LoopDisk {
  return loopDiskIn(tmpdir(), sizeBytes, ...losetup);
}

function loopDiskIn(parent: string, sizeBytes: number, ...losetup: string[]): LoopDisk {
  const folder = mkdtempSync(join(parent, 'ingot-loop-'));
  const backing = join(folder, 'backing');
  closeSync(openSync(backing, 'w'));
  truncateSync(backing, sizeBytes);
  const device = execFileSync('losetup', ['--find', '--show', ...losetup, backing], {
    encoding: 'utf8',
  }).trim();
  return {
    device,
    backing,
    folder,
    [Symbol.asyncDispose]: async () => {
      execFileSync('losetup', ['--detach', device]);
      rmSync(folder, { recursive: true });
    },
  };
}

const failsWith = (code: FailureCode, text: RegExp) => (thrown: unknown) =>
  isFailure(thrown, code) && text.test(thrown.message);

const workers = openChunkWorkers(zlibSegmentCodec.name);
after(() => workers[Symbol.asyncDispose]());
const options = (sizeBytes: number) => ({ sizeBytes, inPlace: false, comparesOnly: false });

function someDisk(): Buffer {
  const disk = Buffer.alloc(12 * MIB);
  for (let at = 0; at < disk.length; at += 4096) {
    if (Math.floor(at / (300 * 1024)) % 3 !== 1) disk.writeUInt32LE(at + 1, at);
  }
  return disk;
}

/** How much of a file the page cache has. */
function cachedBytes(path: string): number {
  const words = ['--bytes', '--noheadings', '--output', 'RES', path];
  return Number(execFileSync('fincore', words, { encoding: 'utf8' }));
}

function directSetting({ device }: LoopDisk): string {
  return readFileSync(`/sys/block/${device.slice(5)}/loop/dio`, 'utf8').trim();
}

for (const sector of ['512', '4096']) {
  restoreTargetContract(`a block device with sectors of ${sector} bytes`, async () => {
    const disk = loopDisk(MIB, '--sector-size', sector);
    const target = await openRestoreTarget(disk.device, options(MIB));
    assert.equal(target.blockBytes, Number(sector));
    return {
      target,
      onMedium: async () => await readFile(disk.backing),
      [Symbol.asyncDispose]: async () => {
        await target[Symbol.asyncDispose]();
        await disk[Symbol.asyncDispose]();
      },
    };
  });
}

describe('restoring to a block device', () => {
  test('the device has the image, its holes take no space, and a second run writes nothing', async () => {
    await using loop = loopDisk(16 * MIB);
    execFileSync('dd', ['if=/dev/urandom', `of=${loop.device}`, 'bs=1M', 'count=16'], {
      stdio: 'ignore',
    });
    const disk = someDisk();
    const tail = readFileSync(loop.device).subarray(disk.length);
    const feed = new MemoryFeed(disk, { extentBytes: [100 * 1024, 28 * 1024], entriesPerPage: 7 });
    await using target = await openRestoreTarget(loop.device, options(disk.length));
    const first = await restoreImage(feed, target, { workers });
    assert.equal(first.writtenBytes + first.zeroedBytes, disk.length);
    const medium = readFileSync(loop.backing);
    assert.ok(medium.subarray(0, disk.length).equals(disk));
    assert.ok(medium.subarray(disk.length).equals(tail), 'what lies behind the image is kept');
    assert.ok(statSync(loop.backing).blocks * 512 < 14 * MIB, 'holes are given back');
    const second = await restoreImage(feed, target, { workers });
    assert.equal(second.writtenBytes, 0);
  });

  test('a byte that changed on the medium behind the cache is found by verifying', async () => {
    await using loop = loopDisk(12 * MIB);
    const disk = someDisk();
    const feed = new MemoryFeed(disk);
    await using target = await openRestoreTarget(loop.device, options(disk.length));
    await restoreImage(feed, target, { workers });
    readFileSync(loop.device);
    const backing = openSync(loop.backing, 'r+');
    try {
      writeFileSync(backing, 'X');
    } finally {
      closeSync(backing);
    }
    await assert.rejects(
      verifyTarget(feed, target, { workers }),
      failsWith('verify-failed', /at byte 0$/),
    );
  });

  test('what is read back from a loop device comes from the disk, not from the cache of its file', async () => {
    using filesystem = loopFilesystem();
    await using loop = loopDiskIn(filesystem.mountPoint, 12 * MIB);
    const disk = someDisk();
    // Somebody looks at the device: now the cache has what was there.
    readFileSync(loop.device);
    assert.ok(cachedBytes(loop.backing) > 0);
    {
      await using target = await openRestoreTarget(loop.device, options(disk.length));
      await restoreImage(new MemoryFeed(disk), target, { workers });
      assert.equal(cachedBytes(loop.backing), 0);
    }
    assert.ok(readFileSync(loop.device).subarray(0, disk.length).equals(disk));
  });

  for (const setting of ['off', 'on']) {
    test(`a loop device with direct I/O ${setting} has it ${setting} afterwards`, async () => {
      using filesystem = loopFilesystem();
      await using loop = loopDiskIn(filesystem.mountPoint, MIB, `--direct-io=${setting}`);
      const before = directSetting(loop);
      {
        await using target = await openRestoreTarget(loop.device, options(MIB));
        assert.equal(directSetting(loop), '1');
        await target.sync();
      }
      assert.equal(directSetting(loop), before);
      assert.equal(before, setting === 'on' ? '1' : '0');
    });
  }

  test('a loop device over a file in memory is restored too', async () => {
    await using undo = new AsyncDisposableStack();
    const folder = mkdtempSync(join(tmpdir(), 'ingot-tmpfs-'));
    undo.defer(() => rmSync(folder, { recursive: true }));
    execFileSync('mount', ['-t', 'tmpfs', 'ingot-restore', folder]);
    undo.defer(() => void execFileSync('umount', [folder]));
    const loop = undo.use(loopDiskIn(folder, 12 * MIB));
    const disk = someDisk();
    const target = undo.use(await openRestoreTarget(loop.device, options(disk.length)));
    await restoreImage(new MemoryFeed(disk), target, { workers });
    assert.ok(readFileSync(loop.backing).equals(disk));
  });

  test('a mounted device is refused, and the mount point is named', async () => {
    await using loop = loopDisk(16 * MIB);
    execFileSync('mkfs.ext4', ['-q', loop.device]);
    const mountPoint = join(loop.folder, 'a mount');
    mkdirSync(mountPoint);
    execFileSync('mount', [loop.device, mountPoint]);
    try {
      await assert.rejects(
        openRestoreTarget(loop.device, options(MIB)),
        failsWith('target-in-use', /is mounted at .*a mount$/),
      );
    } finally {
      execFileSync('umount', [mountPoint]);
    }
  });

  test('a disk with a mounted partition is refused', async () => {
    await using loop = loopDisk(32 * MIB);
    execFileSync('sfdisk', ['--quiet', loop.device], { input: 'label: gpt\nstart=2048\n' });
    // By hand: not every kernel reads partition tables itself.
    execFileSync('partx', ['--add', loop.device]);
    const number = readFileSync(`/sys/class/block/${loop.device.slice(5)}p1/dev`, 'utf8');
    const [major = '', minor = ''] = number.trim().split(':');
    const partition = join(loop.folder, 'partition');
    execFileSync('mknod', [partition, 'b', major, minor]);
    execFileSync('mkfs.ext4', ['-q', partition]);
    const mountPoint = join(loop.folder, 'mounted');
    mkdirSync(mountPoint);
    execFileSync('mount', [partition, mountPoint]);
    try {
      await assert.rejects(
        openRestoreTarget(loop.device, options(MIB)),
        failsWith('target-in-use', /is mounted at .*mounted$/),
      );
    } finally {
      execFileSync('umount', [mountPoint]);
      execFileSync('partx', ['--delete', loop.device]);
    }
  });

  test('a read-only device is refused', async () => {
    await using loop = loopDisk(MIB, '--read-only');
    await assert.rejects(
      openRestoreTarget(loop.device, options(MIB)),
      failsWith('target-in-use', /read-only|EROFS/),
    );
  });

  test('a file that a loop device is over is refused', async () => {
    await using loop = loopDisk(MIB);
    await assert.rejects(
      openRestoreTarget(loop.backing, options(MIB)),
      failsWith('target-in-use', /is the disk of \/dev\/loop/),
    );
  });

  test('a device that is too small is refused', async () => {
    await using loop = loopDisk(MIB);
    await using target = await openRestoreTarget(loop.device, options(12 * MIB));
    await assert.rejects(
      restoreImage(new MemoryFeed(someDisk()), target, { workers }),
      failsWith('target-too-small', /has 1048576 bytes, img-test1 needs 12582912/),
    );
  });
});
