import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { MemorySnapshotSource } from '../../test/fakes/memory-snapshot-source.ts';
import { isFailure } from '../base/index.ts';
import { snapshotPayload } from './snapshot-payload.ts';

const MIB = 1024 * 1024;

async function readAll(source: MemorySnapshotSource): Promise<Buffer> {
  const pieces: Buffer[] = [];
  const payload = snapshotPayload(source, 'rootfs.ext4');
  for await (const piece of payload.open({
    signal: undefined,
    keptBytes: 0,
    allocate: (size: number) => Buffer.alloc(size),
  }))
    pieces.push(Buffer.from(piece));
  return Buffer.concat(pieces);
}

function sourceOf(bytes: Buffer): MemorySnapshotSource {
  const extents = [
    { offsetBytes: 4096, lengthBytes: 2 * MIB + 17 * 4096 },
    { offsetBytes: 4 * MIB, lengthBytes: 4096 },
  ];
  return new MemorySnapshotSource({ bytes, extents, fileExtents: undefined }, { mayChange: true });
}

test('a snapshot is given out whole, zeros where nothing is allocated, in one frozen pass', async () => {
  const bytes = Buffer.alloc(5 * MIB + 100, 7);
  const source = sourceOf(bytes);
  const expected = Buffer.alloc(bytes.length);
  for (const { offsetBytes, lengthBytes } of source.disk.extents) {
    expected.fill(7, offsetBytes, offsetBytes + lengthBytes);
  }
  assert.ok((await readAll(source)).equals(expected));
  assert.deepEqual(source.passes, ['frozen']);
  assert.equal(source.isFrozen, false);
});

test('extents of any size and place are given out, and zeros between them', async () => {
  const sizeBytes = 3 * MIB + 4096;
  const bytes = randomBytes(sizeBytes);
  const gapsAndLengths = fc.array(fc.integer({ min: 1, max: 90 }), { maxLength: 60 });
  await fc.assert(
    fc.asyncProperty(gapsAndLengths, async (blocks) => {
      const extents: { offsetBytes: number; lengthBytes: number }[] = [];
      let at = 0;
      for (const [i, count] of blocks.entries()) {
        const lengthBytes = Math.min(count * 4096, sizeBytes - at);
        if (i % 2 === 1 && lengthBytes > 0) extents.push({ offsetBytes: at, lengthBytes });
        at += lengthBytes;
      }
      const disk = { bytes, extents, fileExtents: undefined };
      const expected = Buffer.alloc(sizeBytes);
      for (const { offsetBytes, lengthBytes } of extents) {
        bytes.copy(expected, offsetBytes, offsetBytes, offsetBytes + lengthBytes);
      }
      const source = new MemorySnapshotSource(disk, { mayChange: true });
      assert.ok((await readAll(source)).equals(expected));
    }),
    { numRuns: 30 },
  );
});

test('it thaws when a read fails, and when its taker stops', async () => {
  const broken = sourceOf(Buffer.alloc(5 * MIB));
  broken.onRead = () => {
    throw new Error('the link broke');
  };
  await assert.rejects(readAll(broken), /the link broke/);
  assert.equal(broken.isFrozen, false);
  const source = sourceOf(Buffer.alloc(5 * MIB));
  const payload = snapshotPayload(source, 'rootfs.ext4');
  for await (const piece of payload.open({
    signal: undefined,
    keptBytes: 0,
    allocate: (size: number) => Buffer.alloc(size),
  })) {
    if (piece.length > 0) break;
  }
  assert.equal(source.isFrozen, false);
});

test('it is read only once', async () => {
  const payload = snapshotPayload(sourceOf(Buffer.alloc(5 * MIB)), 'rootfs.ext4');
  const options = {
    signal: undefined,
    keptBytes: 0,
    allocate: (size: number) => Buffer.alloc(size),
  };
  for await (const piece of payload.open(options)) void piece;
  await assert.rejects(
    async () => {
      for await (const piece of payload.open(options)) void piece;
    },
    (thrown) => isFailure(thrown, 'source-unsupported'),
  );
});
