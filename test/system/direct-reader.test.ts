import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { isFailure } from '../../src/base/index.ts';
import { openDirectReader } from '../../src/capture/adapters/direct-reader.ts';
import { type LoopFilesystem, loopFilesystem, run } from './loop-filesystem.ts';

/** Fills the device's page cache with what will be old soon, and writes the files anew. */
function makeCacheStale(disk: LoopFilesystem): void {
  run('dd', 'if=/dev/urandom', `of=${join(disk.mountPoint, 'data')}`, 'bs=1M', 'count=16');
  run('dd', `if=${disk.device}`, 'of=/dev/null', 'bs=1M');
  for (let i = 0; i < 40; i += 1) {
    writeFileSync(join(disk.mountPoint, `file-${i}`), randomBytes(20_000 + i));
  }
  run('sync', '-f', disk.mountPoint);
}

async function readWhole(device: string, direct: boolean): Promise<Buffer> {
  await using reader = await openDirectReader(device, { direct });
  await reader.dropStale();
  const parts: Buffer[] = [];
  for (let at = 0; at < reader.sizeBytes; at += 1024 * 1024) {
    parts.push(await reader.read(at, Math.min(1024 * 1024, reader.sizeBytes - at)));
  }
  return Buffer.concat(parts);
}

describe('a reader of a mounted device', () => {
  for (const blockBytes of [1024, 4096]) {
    test(`sees no stale byte of blocks of ${blockBytes}`, async () => {
      using disk = loopFilesystem({ sizeMiB: 64, mkfsOptions: ['-b', String(blockBytes)] });
      makeCacheStale(disk);
      run('fsfreeze', '-f', disk.mountPoint);
      try {
        const truth = readFileSync(disk.image);
        assert.ok((await readWhole(disk.device, true)).equals(truth), 'direct');
        if (blockBytes === 4096) {
          assert.ok((await readWhole(disk.device, false)).equals(truth), 'through the cache');
        }
      } finally {
        run('fsfreeze', '-u', disk.mountPoint);
      }
    });
  }

  test('refuses to read through the cache where metadata pins pages with stale data', async () => {
    using disk = loopFilesystem({ sizeMiB: 64, mkfsOptions: ['-b', '1024'] });
    await assert.rejects(readWhole(disk.device, false), (thrown) =>
      isFailure(thrown, 'source-unsupported'),
    );
  });

  test('reads any range of a device whose size is odd', async () => {
    using disk = loopFilesystem({ sizeMiB: 16 });
    const path = join(disk.scratch, 'odd.img');
    const plain = randomBytes(1_000_000 - (1_000_000 % 512) + 512);
    writeFileSync(path, plain);
    const device = run('losetup', '--find', '--show', path).trim();
    try {
      await using reader = await openDirectReader(device);
      assert.equal(reader.sizeBytes, plain.length);
      for (const [at, length] of [
        [0, 1],
        [511, 5000],
        [plain.length - 1, 1],
        [plain.length - 700, 700],
        [0, plain.length],
      ] as const) {
        assert.ok((await reader.read(at, length)).equals(plain.subarray(at, at + length)), `${at}`);
      }
    } finally {
      run('losetup', '--detach', device);
    }
  });
});
