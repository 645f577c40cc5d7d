import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { codecWorkers } from '../../../test/fakes/codec-workers.ts';
import { MemoryFeed, type MemoryFeedOptions, testCodec } from '../../../test/fakes/memory-feed.ts';
import { MemoryTarget } from '../../../test/fakes/memory-target.ts';
import { type FailureCode, isFailure, MIB } from '../../base/index.ts';
import type { RestoreFeed } from './restore-feed.ts';
import { restoreImage, verifyTarget } from './restore-image.ts';

const workers = codecWorkers(testCodec);

/** A disk whose pieces are text or zeros in turn. */
function diskOf(
  pieces: readonly { readonly lengthBytes: number; readonly fill: number }[],
): Buffer {
  return Buffer.concat(pieces.map(({ lengthBytes, fill }) => Buffer.alloc(lengthBytes, fill)));
}

const SMALL = diskOf([
  { lengthBytes: 64 * 1024, fill: 1 },
  { lengthBytes: 128 * 1024, fill: 0 },
  { lengthBytes: 64 * 1024, fill: 2 },
  { lengthBytes: 64 * 1024, fill: 3 },
]);

const failsWith = (code: FailureCode) => (thrown: unknown) => isFailure(thrown, code);

describe('restoring an image', () => {
  test('any disk arrives byte for byte on any target, and nothing beside it changes', async () => {
    const piece = fc.record({
      lengthBytes: fc.integer({ min: 1, max: 9000 }),
      fill: fc.constantFrom(0, 0, 7, 8, 9),
    });
    const setup = fc.record({
      pieces: fc.array(piece, { minLength: 1, maxLength: 12 }),
      extentBytes: fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1, maxLength: 4 }),
      blockBytes: fc.constantFrom(512, 4096),
      before: fc.constantFrom('blank', 'zeros', 'garbage', 'same', 'older'),
      zeroesCheaply: fc.boolean(),
      beyondBlocks: fc.integer({ min: 0, max: 2 }),
    });
    await fc.assert(
      fc.asyncProperty(setup, async ({ pieces, extentBytes, blockBytes, ...rest }) => {
        const disk = diskOf(pieces);
        const feed = new MemoryFeed(disk, { extentBytes });
        const blocks = Math.ceil(disk.length / blockBytes) + rest.beyondBlocks;
        const isBlank = rest.before === 'blank';
        const start = Buffer.alloc(blocks * blockBytes, isBlank || rest.before === 'zeros' ? 0 : 5);
        if (rest.before === 'same') disk.copy(start);
        if (rest.before === 'older') disk.copy(start, 0, 0, Math.floor(disk.length / 2));
        const target = new MemoryTarget(Buffer.from(start), {
          blockBytes,
          isBlank,
          zeroesCheaply: rest.zeroesCheaply,
        });
        await restoreImage(feed, target, { workers });
        assert.ok(target.disk.subarray(0, disk.length).equals(disk), 'the disk');
        assert.ok(
          target.disk.subarray(disk.length).equals(start.subarray(disk.length)),
          'the rest',
        );
        await verifyTarget(feed, target, { workers });
      }),
      { numRuns: 100 },
    );
  });

  test('what the target has already is neither fetched nor written', async () => {
    const feed = new MemoryFeed(SMALL);
    const older = Buffer.from(SMALL);
    older.fill(9, 192 * 1024, 192 * 1024 + 10);
    const target = new MemoryTarget(older);
    const report = await restoreImage(feed, target, { workers });
    assert.deepEqual(target.writes, [{ offsetBytes: 192 * 1024, lengthBytes: 64 * 1024 }]);
    assert.equal(feed.asked.length, 1);
    assert.equal(report.writtenBytes, 64 * 1024);
    assert.equal(report.keptBytes, SMALL.length - 64 * 1024);
  });

  test('a second restore writes nothing', async () => {
    const target = new MemoryTarget(Buffer.alloc(SMALL.length, 1));
    await restoreImage(new MemoryFeed(SMALL), target, { workers });
    target.writes.length = 0;
    target.calls.length = 0;
    const report = await restoreImage(new MemoryFeed(SMALL), target, { workers });
    assert.deepEqual(target.writes, []);
    assert.deepEqual(target.calls, ['sync', 'publish']);
    assert.equal(report.verifiedBytes, SMALL.length);
  });

  test('a hole that reads as zeros is left alone where zeroing means writing', async () => {
    const target = new MemoryTarget(Buffer.alloc(SMALL.length));
    const report = await restoreImage(new MemoryFeed(SMALL), target, { workers });
    assert.equal(report.zeroedBytes, 0);
    assert.deepEqual(target.calls, ['sync', 'publish']);
  });

  test('neighbours are written together', async () => {
    const target = new MemoryTarget(Buffer.alloc(SMALL.length), { isBlank: true });
    await restoreImage(new MemoryFeed(SMALL), target, { workers });
    assert.deepEqual(target.writes, [
      { offsetBytes: 0, lengthBytes: 64 * 1024 },
      { offsetBytes: 192 * 1024, lengthBytes: 128 * 1024 },
    ]);
  });

  test('a long run of data is worked on in pieces of 2 MiB: several of them are in memory', async () => {
    const disk = Buffer.alloc(5 * MIB, 7);
    const target = new MemoryTarget(Buffer.alloc(disk.length), { isBlank: true });
    const feed = new MemoryFeed(disk, { extentBytes: [256 * 1024] });
    await restoreImage(feed, target, { workers });
    const lengths = target.writes.map(({ lengthBytes }) => lengthBytes);
    assert.deepEqual(lengths, [2 * MIB, 2 * MIB, MIB]);
  });

  test('a target that is too small is refused before anything is written', async () => {
    const target = new MemoryTarget(Buffer.alloc(SMALL.length - 512));
    await assert.rejects(
      restoreImage(new MemoryFeed(SMALL), target, { workers }),
      failsWith('target-too-small'),
    );
    assert.deepEqual(target.writes, []);
  });

  test('a chunk with the bytes of another one never reaches the target', async () => {
    const feed = new MemoryFeed(SMALL);
    const first = (await feed.page(0))[0];
    assert.ok(first?.kind === 'chunk');
    feed.spoil(first.digest);
    const target = new MemoryTarget(Buffer.alloc(SMALL.length), { isBlank: true });
    await assert.rejects(restoreImage(feed, target, { workers }), failsWith('chunk-corrupt'));
    assert.deepEqual(target.writes, []);
    assert.ok(!target.calls.includes('publish'));
  });

  test('a medium that loses a write is found out, and the file is not published', async () => {
    const target = new MemoryTarget(Buffer.alloc(SMALL.length), { isBlank: true });
    target.beforeWrite = (buffer, offsetBytes) => {
      if (offsetBytes > 0) buffer.writeUInt8(buffer.readUInt8(100) ^ 1, 100);
    };
    await assert.rejects(
      restoreImage(new MemoryFeed(SMALL), target, { workers }),
      (thrown) =>
        isFailure(thrown, 'verify-failed') &&
        thrown.facts['firstOffsetBytes'] === 192 * 1024 &&
        thrown.facts['differentBytes'] === 64 * 1024,
    );
    assert.deepEqual(target.calls, ['sync']);
  });

  test('a card that wraps around at half of its promised size is found out', async () => {
    const disk = Buffer.alloc(8 * MIB);
    for (let at = 0; at < disk.length; at += 4096) disk.writeUInt32LE(at + 1, at);
    const half = disk.length / 2;
    const target = new MemoryTarget(Buffer.alloc(disk.length));
    target.beforeWrite = (buffer, offsetBytes) => {
      if (offsetBytes >= half) buffer.copy(target.disk, offsetBytes - half);
    };
    const feed = new MemoryFeed(disk, { extentBytes: [256 * 1024] });
    await assert.rejects(restoreImage(feed, target, { workers }), failsWith('verify-failed'));
  });

  test('wherever a write fails, a second run completes the disk', async () => {
    const pieces = Array.from({ length: 24 }, (_, i) => ({ lengthBytes: 8192, fill: i % 3 }));
    const disk = diskOf(pieces);
    const options: MemoryFeedOptions = { extentBytes: [8192] };
    const target = new MemoryTarget(Buffer.alloc(disk.length, 0xee));
    for (let n = 1; ; n++) {
      let left = n;
      target.beforeWrite = () => {
        left -= 1;
        if (left === 0) throw new Error('the cable was pulled');
      };
      try {
        await restoreImage(new MemoryFeed(disk, options), target, { workers });
        break;
      } catch (thrown) {
        assert.match(String(thrown), /the cable was pulled/);
      }
      assert.ok(n < 30, 'it never ends');
    }
    assert.ok(target.disk.equals(disk));
  });

  test('a feed that breaks off fails the restore and leaves no call running', async () => {
    const feed = new MemoryFeed(SMALL, { extentBytes: [4096] });
    let reads = 0;
    feed.beforeRead = () => {
      reads += 1;
      if (reads === 20) throw new Error('the line is dead');
    };
    const target = new MemoryTarget(Buffer.alloc(SMALL.length), { isBlank: true });
    await assert.rejects(restoreImage(feed, target, { workers }), /the line is dead/);
    const settled = target.writes.length;
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(target.writes.length, settled);
  });

  test('an aborted restore ends with the reason', async () => {
    const cancel = new AbortController();
    const target = new MemoryTarget(Buffer.alloc(SMALL.length));
    cancel.abort(new Error('enough'));
    await assert.rejects(
      restoreImage(new MemoryFeed(SMALL), target, { workers, signal: cancel.signal }),
      /enough/,
    );
  });

  test('pages that do not cover the disk are refused', async () => {
    const feed = new MemoryFeed(SMALL);
    const liar: RestoreFeed = {
      name: feed.name,
      sizeBytes: SMALL.length - 512,
      pages: feed.pages,
      page: (index) => feed.page(index),
      readCoded: (chunks) => feed.readCoded(chunks),
      giveBack: () => undefined,
      [Symbol.asyncDispose]: async () => undefined,
    };
    const target = new MemoryTarget(Buffer.alloc(SMALL.length));
    await assert.rejects(restoreImage(liar, target, { workers }), failsWith('manifest-invalid'));
  });
});
