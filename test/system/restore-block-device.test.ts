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
import { open, readFile } from 'node:fs/promises';
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

/** A partition of a loop device, by hand: not every kernel reads tables, nor every machine has udev. */
function partitionOf(
  { device, folder }: LoopDisk,
  { startBytes, sizeBytes }: { readonly startBytes: number; readonly sizeBytes: number },
): { readonly path: string; readonly remove: () => void } {
  const sectors = [startBytes / 512, sizeBytes / 512].map(String);
  execFileSync('addpart', [device, '1', ...sectors]);
  const number = readFileSync(`/sys/class/block/${device.slice(5)}p1/dev`, 'utf8');
  const [major = '', minor = ''] = number.trim().split(':');
  const path = join(folder, 'partition');
  execFileSync('mknod', [path, 'b', major, minor]);
  return { path, remove: () => void execFileSync('delpart', [device, '1']) };
}

function directSetting({ device }: LoopDisk): string {
  return readFileSync(`/sys/block/${device.slice(5)}/loop/dio`, 'utf8').trim();
}

const DEVICES = [
  { name: 'a block device with sectors of 512 bytes', sector: '512', direct: 'on', blocks: 512 },
  { name: 'a block device with sectors of 4096 bytes', sector: '4096', direct: 'on', blocks: 4096 },
  { name: 'the file of a loop device', sector: '512', direct: 'off', blocks: 4096 },
];
for (const { name, sector, direct, blocks } of DEVICES) {
  restoreTargetContract(name, async () => {
    const disk = loopDisk(MIB, '--sector-size', sector, `--direct-io=${direct}`);
    const target = await openRestoreTarget(disk.device, options(MIB));
    assert.equal(target.blockBytes, blocks);
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
    test(`a loop device with direct I/O ${setting} has it ${setting} all the time`, async () => {
      using filesystem = loopFilesystem();
      await using loop = loopDiskIn(filesystem.mountPoint, MIB, `--direct-io=${setting}`);
      const before = directSetting(loop);
      {
        // Whoever is killed in here leaves it as it was.
        await using target = await openRestoreTarget(loop.device, options(MIB));
        assert.equal(directSetting(loop), before);
        await target.sync();
      }
      assert.equal(directSetting(loop), before);
      assert.equal(before, setting === 'on' ? '1' : '0');
    });
  }

  test('a partition of a loop device is written where it lies, past the cache', async () => {
    using filesystem = loopFilesystem();
    const offsetBytes = MIB;
    await using loop = loopDiskIn(filesystem.mountPoint, 20 * MIB, '--offset', `${offsetBytes}`);
    writeFileSync(loop.backing, Buffer.alloc(20 * MIB, 7));
    const drop = [`of=${loop.backing}`, 'oflag=nocache', 'conv=notrunc,fdatasync', 'count=0'];
    execFileSync('dd', drop, { stdio: 'ignore' });
    const partition = partitionOf(loop, { startBytes: 4 * MIB, sizeBytes: 12 * MIB });
    try {
      const disk = someDisk();
      // Whoever has it open keeps its cache alive: with bytes that are not on the medium yet, and
      // with some that are stale in the end.
      await using looker = await open(partition.path, 'r+');
      const page = Buffer.alloc(4096, 9);
      await looker.write(page, 0, page.length, 0);
      {
        await using target = await openRestoreTarget(partition.path, options(disk.length));
        assert.equal(directSetting(loop), '0');
        await looker.read(page, 0, page.length, MIB);
        assert.equal(page[0], 7);
        await restoreImage(new MemoryFeed(disk), target, { workers });
        assert.equal(cachedBytes(loop.backing), 0);
        assert.ok(readFileSync(partition.path).equals(disk));
      }
      const medium = readFileSync(loop.backing);
      const startBytes = offsetBytes + 4 * MIB;
      assert.ok(medium.subarray(startBytes, startBytes + disk.length).equals(disk));
      assert.ok(medium.subarray(0, startBytes).every((byte) => byte === 7));
      assert.ok(medium.subarray(startBytes + disk.length).every((byte) => byte === 7));
    } finally {
      partition.remove();
    }
  });

  test('a partition of a loop device that begins inside a block switches it to direct I/O for good', async () => {
    using filesystem = loopFilesystem();
    await using loop = loopDiskIn(filesystem.mountPoint, 20 * MIB);
    const startBytes = 63 * 512;
    const partition = partitionOf(loop, { startBytes, sizeBytes: 12 * MIB });
    try {
      const disk = someDisk();
      await using target = await openRestoreTarget(partition.path, options(disk.length));
      assert.equal(directSetting(loop), '1');
      await restoreImage(new MemoryFeed(disk), target, { workers });
      assert.equal(cachedBytes(loop.backing), 0);
      const medium = readFileSync(loop.backing);
      assert.ok(medium.subarray(startBytes, startBytes + disk.length).equals(disk));
    } finally {
      partition.remove();
    }
    assert.equal(directSetting(loop), '1');
  });

  test('a loop device whose file has been deleted is restored through the device', async () => {
    using filesystem = loopFilesystem();
    await using loop = loopDiskIn(filesystem.mountPoint, 12 * MIB);
    rmSync(loop.backing);
    const disk = someDisk();
    await using target = await openRestoreTarget(loop.device, options(disk.length));
    assert.equal(directSetting(loop), '1');
    await restoreImage(new MemoryFeed(disk), target, { workers });
    assert.ok(readFileSync(loop.device).equals(disk));
  });

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
