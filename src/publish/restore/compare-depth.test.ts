import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { codecWorkers } from '../../../test/fakes/codec-workers.ts';
import { MemoryFeed, testCodec } from '../../../test/fakes/memory-feed.ts';
import { MemoryTarget } from '../../../test/fakes/memory-target.ts';
import { MIB } from '../../base/index.ts';
import { restoreImage } from './restore-image.ts';

const workers = codecWorkers(testCodec);

/** A disk of chunks that all differ. */
function diskOf(sizeBytes: number): Buffer {
  const disk = Buffer.alloc(sizeBytes);
  for (let at = 0; at < sizeBytes; at += 4096) disk.writeUInt32LE(at + 1, at);
  return disk;
}

const DISK = diskOf(64 * MIB);

/** Restores the disk over what a target has. @returns bytes read from the target before writing */
async function readBytes(before: Buffer): Promise<{ read: number; written: number }> {
  const target = new MemoryTarget(before);
  const feed = new MemoryFeed(DISK, { extentBytes: [256 * 1024], entriesPerPage: 64 });
  const { writtenBytes } = await restoreImage(feed, target, { workers, verify: false });
  assert.ok(target.disk.equals(DISK));
  return { read: target.readBytes, written: writtenBytes };
}

describe('how much of a target is compared before it is written', () => {
  test('a target that has nothing of the image is hardly read', async () => {
    const { read, written } = await readBytes(Buffer.alloc(DISK.length, 7));
    assert.equal(written, DISK.length);
    assert.ok(read < DISK.length / 2, `${read} bytes were read`);
  });

  test('a target with the first half is only written behind it', async () => {
    const before = Buffer.alloc(DISK.length);
    DISK.copy(before, 0, 0, DISK.length / 2);
    const { written } = await readBytes(before);
    assert.equal(written, DISK.length / 2);
  });

  test('an equal end is found behind a foreign beginning', async () => {
    const before = Buffer.alloc(DISK.length);
    DISK.copy(before, DISK.length / 2, DISK.length / 2);
    const { written } = await readBytes(before);
    assert.equal(written, DISK.length / 2);
  });
});
