import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { promisify } from 'node:util';
import { constants, deflateRaw, gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { MemoryGuard, memorySnapshot } from '../../test/fakes/memory-disk.ts';
import { type Clock, IngotError, isFailure, noProgress, systemClock } from '../base/index.ts';
import { type Extent, mergeExtents } from '../bytes/index.ts';
import { dumpSnapshot } from './dump.ts';
import type { DumpTarget, WriteWatch } from './dump-target.ts';
import { gzipCompressor, type StreamCompressor } from './stream-compressor.ts';

const clock: Clock = systemClock;
const deflate = promisify(deflateRaw);

function testGzip(pieceBytes = 4096): StreamCompressor {
  return gzipCompressor({
    engine: 'test',
    pieceBytes,
    piecesInFlight: 3,
    deflate: (plain) => deflate(plain, { finishFlush: constants.Z_SYNC_FLUSH }),
  });
}

/** A target in memory that tells what it has, and breaks where a test wants it to. */
class MemoryTarget implements DumpTarget {
  readonly isSparse: boolean;
  readonly roomBytes: number | undefined;
  readonly parts: Buffer[] = [];
  isCommitted = false;
  holes = 0;
  onWrite: (bytes: Uint8Array) => void = () => undefined;

  constructor({ isSparse = false, roomBytes }: { isSparse?: boolean; roomBytes?: number } = {}) {
    this.isSparse = isSparse;
    this.roomBytes = roomBytes;
  }

  get bytes(): Buffer {
    return Buffer.concat(this.parts);
  }

  write(bytes: Uint8Array, watch: WriteWatch): Promise<void> {
    watch.alive();
    this.onWrite(bytes);
    this.parts.push(Buffer.from(bytes));
    watch.wrote(bytes.length);
    return Promise.resolve();
  }

  skip(lengthBytes: number): Promise<void> {
    assert.ok(this.isSparse);
    this.holes += 1;
    this.parts.push(Buffer.alloc(lengthBytes));
    return Promise.resolve();
  }

  taken(): Promise<void> {
    return Promise.resolve();
  }

  commit(): Promise<void> {
    this.isCommitted = true;
    return Promise.resolve();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve();
  }
}

/** A disk whose free space is not zero, and what a dump of it must be. */
function diskWith(extents: readonly Extent[], sizeBytes: number): { disk: Buffer; plain: Buffer } {
  const disk = Buffer.alloc(sizeBytes, 0x55);
  const plain = Buffer.alloc(sizeBytes);
  for (const { offsetBytes, lengthBytes } of extents) {
    const pattern = Buffer.from(`data at ${offsetBytes} `);
    disk.fill(pattern, offsetBytes, offsetBytes + lengthBytes);
    disk.copy(plain, offsetBytes, offsetBytes, offsetBytes + lengthBytes);
  }
  return { disk, plain };
}

async function dump(
  extents: readonly Extent[],
  sizeBytes: number,
  {
    target = new MemoryTarget(),
    compressor = undefined as StreamCompressor | undefined,
    guard = new MemoryGuard(),
    signal = new AbortController().signal,
  } = {},
) {
  const { disk, plain } = diskWith(extents, sizeBytes);
  await using source = memorySnapshot(disk, extents, guard);
  const report = await dumpSnapshot({
    source,
    target,
    compressor,
    onProgress: noProgress,
    signal,
    clock,
  });
  return { report, target, plain, guard };
}

const SIZE_BYTES = 400_000;
const someExtents = fc
  .array(
    fc.record({
      offsetBytes: fc.integer({ min: 0, max: SIZE_BYTES - 1 }),
      lengthBytes: fc.integer({ min: 1, max: 90_000 }),
    }),
    { maxLength: 6 },
  )
  .map((list) =>
    mergeExtents(
      list.map(({ offsetBytes, lengthBytes }) => ({
        offsetBytes,
        lengthBytes: Math.min(lengthBytes, SIZE_BYTES - offsetBytes),
      })),
    ),
  );

describe('a dump', () => {
  test('has every allocated byte and zeros elsewhere, raw, sparse and as gzip', async () => {
    await fc.assert(
      fc.asyncProperty(
        someExtents,
        fc.integer({ min: 1000, max: 70_000 }),
        async (extents, pieceBytes) => {
          const piped = await dump(extents, SIZE_BYTES);
          assert.ok(piped.target.bytes.equals(piped.plain));
          const sparse = await dump(extents, SIZE_BYTES, {
            target: new MemoryTarget({ isSparse: true }),
          });
          assert.ok(sparse.target.bytes.equals(sparse.plain));
          const coded = await dump(extents, SIZE_BYTES, { compressor: testGzip(pieceBytes) });
          assert.ok(gunzipSync(coded.target.bytes).equals(coded.plain));
        },
      ),
      { numRuns: 40 },
    );
  });

  test('covers a disk of several reads in order', async () => {
    const sizeBytes = 5 * 1024 * 1024 + 777;
    const extents = [{ offsetBytes: 0, lengthBytes: sizeBytes }];
    const { target, plain, report } = await dump(extents, sizeBytes, {
      compressor: testGzip(256 * 1024),
    });
    assert.ok(gunzipSync(target.bytes).equals(plain));
    assert.equal(report.sizeBytes, sizeBytes);
    assert.equal(report.writtenBytes, target.bytes.length);
    assert.equal(report.capture.consistency, 'frozen');
  });

  test('sends its beginning before it freezes, and thaws before it has written its end', async () => {
    const extents = [{ offsetBytes: 0, lengthBytes: 100_000 }];
    for (const compressor of [undefined, testGzip()]) {
      const guard = new MemoryGuard();
      const target = new MemoryTarget();
      const frozenAtWrite: boolean[] = [];
      target.onWrite = () => frozenAtWrite.push(guard.isFrozen);
      await dump(extents, 20_000_000, { target, guard, compressor });
      assert.equal(frozenAtWrite[0], false, 'the first write was frozen');
      assert.equal(frozenAtWrite.at(-1), false, 'the last write was frozen');
    }
  });

  test('codes several pieces at once, as many as it was told and no more', async () => {
    let coding = 0;
    let most = 0;
    const gzip = testGzip();
    const compressor: StreamCompressor = {
      ...gzip,
      encode: async (plain) => {
        coding += 1;
        most = Math.max(most, coding);
        const coded = await gzip.encode(plain);
        coding -= 1;
        return coded;
      },
    };
    const whole = [{ offsetBytes: 0, lengthBytes: 200_000 }];
    const { target, plain } = await dump(whole, 200_000, { compressor });
    assert.ok(gunzipSync(target.bytes).equals(plain));
    // One more is begun before the first of the others is waited for.
    assert.ok(most > 1 && most <= compressor.piecesInFlight + 1, `${most} at once`);
  });

  test('fails and does not commit when its freeze was lost', async () => {
    const guard = new MemoryGuard();
    const target = new MemoryTarget();
    target.onWrite = (bytes) => {
      if (bytes.length > 1024) guard.lose();
    };
    const extents = [{ offsetBytes: 0, lengthBytes: 9_000_000 }];
    await assert.rejects(dump(extents, 9_000_000, { target, guard }), (thrown) =>
      isFailure(thrown, 'freeze-lost'),
    );
    assert.equal(target.isCommitted, false);
  });

  test('fails, thaws and does not commit wherever its target breaks', async () => {
    const extents = [{ offsetBytes: 0, lengthBytes: 3_000_000 }];
    for (let n = 1; ; n += 1) {
      const guard = new MemoryGuard();
      const target = new MemoryTarget();
      let writes = 0;
      target.onWrite = () => {
        writes += 1;
        if (writes === n) throw new IngotError('target-full', 'no space left');
      };
      try {
        await dump(extents, 4_000_000, { target, guard, compressor: testGzip(256 * 1024) });
        assert.ok(n > 10, `the dump makes only ${n - 1} writes`);
        return;
      } catch (thrown) {
        if (!isFailure(thrown, 'target-full')) throw thrown;
      }
      assert.equal(guard.isFrozen, false, `after write ${n}`);
      assert.equal(target.isCommitted, false, `after write ${n}`);
    }
  });

  test('refuses a target that is too small before it freezes or writes', async () => {
    const guard = new MemoryGuard();
    guard.freeze = () => assert.fail('it froze');
    const target = new MemoryTarget({ isSparse: true, roomBytes: 9999 });
    await assert.rejects(
      dump([{ offsetBytes: 0, lengthBytes: 10_000 }], 50_000, { target, guard }),
      (thrown) => isFailure(thrown, 'target-too-small'),
    );
    assert.equal(target.parts.length, 0);
  });

  test('ends with the reason of its signal, thawed', async () => {
    const guard = new MemoryGuard();
    const target = new MemoryTarget();
    const cancel = new AbortController();
    target.onWrite = (bytes) => {
      if (bytes.length > 1024) cancel.abort(new Error('enough'));
    };
    const extents = [{ offsetBytes: 0, lengthBytes: 9_000_000 }];
    await assert.rejects(
      dump(extents, 9_000_000, { target, guard, signal: cancel.signal }),
      /enough/,
    );
    assert.equal(guard.isFrozen, false);
    assert.equal(target.isCommitted, false);
  });
});
