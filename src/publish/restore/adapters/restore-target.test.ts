import assert from 'node:assert/strict';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, beforeEach, describe, test } from 'node:test';
import {
  restoreTargetContract,
  type TargetUnderTest,
} from '../../../../test/contracts/restore-target.ts';
import { MemoryFeed } from '../../../../test/fakes/memory-feed.ts';
import { MemoryTarget } from '../../../../test/fakes/memory-target.ts';
import { isFailure } from '../../../base/index.ts';
import { openChunkWorkers } from '../../../keep/adapters/thread-chunk-workers.ts';
import { zlibSegmentCodec } from '../../../keep/adapters/zlib-segment-codec.ts';
import { restoreImage } from '../restore-image.ts';
import { partPath } from './file-target.ts';
import { type OpenTargetOptions, openRestoreTarget } from './restore-target.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ingot-restore-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

async function fileUnderTest(inPlace: boolean): Promise<TargetUnderTest> {
  const path = join(folder, 'disk.raw');
  if (inPlace) writeFileSync(path, Buffer.alloc(300_000, 0x33));
  const target = await openRestoreTarget(path, {
    sizeBytes: 64 * 4096 + 100,
    inPlace,
    comparesOnly: false,
  });
  return {
    target,
    onMedium: () => readFile(path),
    [Symbol.asyncDispose]: () => target[Symbol.asyncDispose](),
  };
}

restoreTargetContract('a new file', () => fileUnderTest(false));
restoreTargetContract('a file in place', () => fileUnderTest(true));
restoreTargetContract('memory', async () => {
  const disk = Buffer.alloc(64 * 512, 0x33);
  const target = new MemoryTarget(disk);
  return {
    target,
    onMedium: async () => disk,
    [Symbol.asyncDispose]: () => target[Symbol.asyncDispose](),
  };
});

/** The memory that they lend is fit for direct I/O. */
const workers = openChunkWorkers(zlibSegmentCodec.name);
after(() => workers[Symbol.asyncDispose]());

const DISK = Buffer.concat([
  Buffer.alloc(70_000, 1),
  Buffer.alloc(200_000),
  Buffer.alloc(64 * 1024, 2),
  Buffer.alloc(777, 3),
]);

async function restoreTo(path: string, options: Partial<OpenTargetOptions> = {}) {
  await using target = await openRestoreTarget(path, {
    sizeBytes: DISK.length,
    inPlace: false,
    comparesOnly: false,
    ...options,
  });
  return await restoreImage(new MemoryFeed(DISK, { extentBytes: [10_000, 7000] }), target, {
    workers,
  });
}

describe('restoring to a file', () => {
  test('a new file has the bytes of the image, is sparse, and nothing lies beside it', async () => {
    const path = join(folder, 'new.raw');
    await restoreTo(path);
    assert.ok(readFileSync(path).equals(DISK));
    assert.deepEqual(readdirSync(folder), ['new.raw']);
    assert.ok(statSync(path).blocks * 512 < DISK.length, 'holes take no space');
  });

  test('a file that was there is replaced in one step', async () => {
    const path = join(folder, 'old.raw');
    writeFileSync(path, 'something else');
    await using target = await openRestoreTarget(path, {
      sizeBytes: DISK.length,
      inPlace: false,
      comparesOnly: false,
    });
    assert.equal(readFileSync(path, 'utf8'), 'something else');
    const feed = new MemoryFeed(DISK);
    feed.beforeRead = () => assert.equal(readFileSync(path, 'utf8'), 'something else');
    await restoreImage(feed, target, { workers });
    assert.ok(readFileSync(path).equals(DISK));
  });

  test('in place, a longer file is cut to the length of the image', async () => {
    const path = join(folder, 'long.raw');
    writeFileSync(path, Buffer.alloc(2 * DISK.length, 9));
    await restoreTo(path, { inPlace: true });
    assert.ok(readFileSync(path).equals(DISK));
  });

  test('what a killed restore left is used again, and only the rest is fetched', async () => {
    const path = join(folder, 'resumed.raw');
    writeFileSync(partPath(path), Buffer.concat([DISK.subarray(0, 100_000), Buffer.alloc(5)]));
    const report = await restoreTo(path);
    assert.ok(readFileSync(path).equals(DISK));
    assert.ok(report.writtenBytes < 80_000, `${report.writtenBytes} bytes were written`);
  });

  test('two restores to one new file do not meet', async () => {
    const path = join(folder, 'two.raw');
    const options = { sizeBytes: 4096, inPlace: false, comparesOnly: false };
    await using first = await openRestoreTarget(path, options);
    await assert.rejects(openRestoreTarget(path, options), (thrown) =>
      isFailure(thrown, 'target-in-use'),
    );
    assert.equal(first.facts.path, path);
  });

  test('a restore that wrote nothing leaves nothing behind', async () => {
    const path = join(folder, 'none.raw');
    await using target = await openRestoreTarget(path, {
      sizeBytes: 4096,
      inPlace: false,
      comparesOnly: false,
    });
    await target[Symbol.asyncDispose]();
    assert.deepEqual(readdirSync(folder), []);
  });

  test('a planted link in the place of the unfinished file is not followed', async () => {
    const path = join(folder, 'linked.raw');
    const victim = join(folder, 'victim');
    writeFileSync(victim, 'precious');
    symlinkSync(victim, partPath(path));
    await assert.rejects(restoreTo(path), (thrown) => isFailure(thrown, 'target-closed'));
    assert.equal(readFileSync(victim, 'utf8'), 'precious');
  });

  test('comparing an absent file says so, and makes none', async () => {
    const path = join(folder, 'absent.raw');
    await assert.rejects(restoreTo(path, { comparesOnly: true }), (thrown) =>
      isFailure(thrown, 'source-not-found'),
    );
    assert.ok(!existsSync(path));
  });
});
