import assert from 'node:assert/strict';
import {
  closeSync,
  existsSync,
  openSync,
  readFileSync,
  rmSync,
  statfsSync,
  truncateSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { isFailure, MIB } from '../../src/base/index.ts';
import { openChunkWorkers } from '../../src/keep/adapters/thread-chunk-workers.ts';
import { zlibSegmentCodec } from '../../src/keep/adapters/zlib-segment-codec.ts';
import { type RestoreReport, restoreImage } from '../../src/publish/index.ts';
import { openRestoreTarget } from '../../src/publish/restore/adapters/restore-target.ts';
import { MemoryFeed } from '../fakes/memory-feed.ts';
import { type LoopFilesystem, loopFilesystem, run } from './loop-filesystem.ts';

const workers = openChunkWorkers(zlibSegmentCodec.name);
after(() => workers[Symbol.asyncDispose]());

/** 24 MiB without a hole. */
function someDisk(): Buffer {
  const disk = Buffer.alloc(24 * MIB);
  for (let at = 0; at < disk.length; at += 4096) disk.writeUInt32LE(at + 1, at);
  return disk;
}

/** A filesystem with room for about half of the disk, until its filler is removed. */
function halfFull(): LoopFilesystem & { makeRoom(): void } {
  const small = loopFilesystem({ sizeMiB: 64, mkfsOptions: ['-m', '0'] });
  const filler = join(small.mountPoint, 'filler');
  const { bavail, bsize } = statfsSync(small.mountPoint);
  run('fallocate', '-l', String(bavail * bsize - 12 * MIB), filler);
  return { ...small, makeRoom: () => rmSync(filler) };
}

async function restoreTo(path: string, disk: Buffer): Promise<RestoreReport> {
  const sizeBytes = disk.length;
  await using target = await openRestoreTarget(path, {
    sizeBytes,
    inPlace: false,
    comparesOnly: false,
  });
  return await restoreImage(new MemoryFeed(disk), target, { workers });
}

describe('restoring for want of space', () => {
  test('to a new file fails, has no file of that name, and goes on once there is room', async () => {
    using small = halfFull();
    const disk = someDisk();
    const path = join(small.mountPoint, 'disk.raw');
    await assert.rejects(restoreTo(path, disk), (thrown) => isFailure(thrown, 'target-full'));
    assert.equal(existsSync(path), false);
    small.makeRoom();
    const { keptBytes, writtenBytes } = await restoreTo(path, disk);
    assert.ok(keptBytes > 4 * MIB, `${keptBytes} bytes were there already`);
    assert.equal(keptBytes + writtenBytes, disk.length);
    assert.ok(readFileSync(path).equals(disk));
  });

  test('to a device that has promised more than it can keep fails, and goes on later', async () => {
    using small = halfFull();
    const disk = someDisk();
    const backing = join(small.mountPoint, 'backing');
    closeSync(openSync(backing, 'w'));
    truncateSync(backing, disk.length);
    const device = run('losetup', '--find', '--show', backing).trim();
    try {
      await assert.rejects(
        restoreTo(device, disk),
        (thrown) => isFailure(thrown, 'target-full') || isFailure(thrown, 'target-closed'),
      );
      small.makeRoom();
      await restoreTo(device, disk);
      assert.ok(readFileSync(backing).equals(disk));
    } finally {
      run('losetup', '--detach', device);
    }
  });
});
