import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { IngotError, isFailure } from '../../base/index.ts';
import type { ByteReader } from '../byte-reader.ts';
import { readDiskMap } from './disk-map.ts';

const KIB = 1024;

function readerOf(disk: Buffer): ByteReader {
  return {
    sizeBytes: disk.length,
    read: (offset, length) => {
      if (offset < 0 || offset + length > disk.length) {
        return Promise.reject(new IngotError('source-truncated', 'outside'));
      }
      return Promise.resolve(Buffer.from(disk.subarray(offset, offset + length)));
    },
  };
}

/** What makes a disk look like something: where a magic stands, and the magic. */
const MAGICS: readonly (readonly [number, Buffer])[] = [
  [1024 + 0x38, Buffer.from([0x53, 0xef])],
  [0, Buffer.from('XFSB')],
  [65_536 + 64, Buffer.from('_BHRfS_M')],
  [1024, Buffer.from([0x10, 0x20, 0xf5, 0xf2])],
  [4096 - 10, Buffer.from('SWAPSPACE2')],
  [510, Buffer.from([0x55, 0xaa])],
  [512, Buffer.from('EFI PART')],
  [446 + 4, Buffer.from([0xee])],
  [0, Buffer.from([0xeb, 0x3c, 0x90, ...Buffer.from('mkfs.fat'), 0, 2, 4, 1, 0, 2])],
];

describe('a disk map', () => {
  test('of a disk that nothing is known of is all of it', async () => {
    for (const size of [1, 511, 512, 4 * KIB, 100 * KIB]) {
      const map = await readDiskMap(readerOf(Buffer.alloc(size, 7)));
      assert.equal(map.filesystem, undefined);
      assert.deepEqual(map.allocated, [{ offsetBytes: 0, lengthBytes: size }]);
      assert.deepEqual(map.notices, ['no known filesystem: everything is copied']);
      assert.equal(map.fileExtents, undefined);
    }
  });

  test('of an empty disk has no extents', async () => {
    assert.deepEqual((await readDiskMap(readerOf(Buffer.alloc(0)))).allocated, []);
  });

  test('of a disk with two signatures is all of it', async () => {
    const disk = Buffer.alloc(100 * KIB);
    disk.write('JFS1', 32_768);
    disk.write('SWAPSPACE2', 4096 - 10);
    const map = await readDiskMap(readerOf(disk));
    assert.deepEqual(map.allocated, [{ offsetBytes: 0, lengthBytes: disk.length }]);
    assert.deepEqual(map.notices, ['signatures of jfs and swap: everything is copied']);
  });

  test('of a disk whose MBR counts in 4096 bytes has its partitions, told or not', async () => {
    const disk = Buffer.alloc(4 * 1024 * KIB);
    disk.writeUInt8(0x82, 446 + 4);
    disk.writeUInt32LE(256, 446 + 8);
    disk.writeUInt32LE(512, 446 + 12);
    disk.writeUInt16LE(0xaa55, 510);
    const startOf = async (sectorBytes?: number): Promise<number | undefined> =>
      (await readDiskMap(readerOf(disk), { sectorBytes })).partitions[0]?.offsetBytes;
    // Nothing speaks for either: what most disks have.
    assert.equal(await startOf(), 128 * KIB);
    disk.write('SWAPSPACE2', 1024 * KIB + 4096 - 10);
    assert.equal(await startOf(), 1024 * KIB);
    assert.equal(await startOf(512), 128 * KIB);
    assert.equal(await startOf(4096), 1024 * KIB);
    disk.write('SWAPSPACE2', 128 * KIB + 4096 - 10);
    assert.equal(await startOf(), 128 * KIB);
  });

  test('of a swap area is its header page and what lies behind the area', async () => {
    const disk = Buffer.alloc(64 * KIB, 9);
    disk.writeUInt32LE(1, 1024);
    disk.writeUInt32LE(11, 1028);
    disk.write('SWAPSPACE2', 4096 - 10);
    const map = await readDiskMap(readerOf(disk));
    assert.deepEqual(map.allocated, [
      { offsetBytes: 0, lengthBytes: 4096 },
      { offsetBytes: 48 * KIB, lengthBytes: 16 * KIB },
    ]);
  });

  test('is never refused, whatever bytes stand beside a magic', async () => {
    const disks = fc.tuple(
      fc.uint8Array({ minLength: 256, maxLength: 4096 }),
      fc.subarray([...MAGICS], { minLength: 1, maxLength: 3 }),
      fc.constantFrom(8, 512, 2 * KIB, 70 * KIB, 300 * KIB),
    );
    await fc.assert(
      fc.asyncProperty(disks, async ([noise, magics, size]) => {
        const disk = Buffer.alloc(size, noise);
        for (const [offset, magic] of magics) magic.copy(disk, offset);
        const { allocated } = await readDiskMap(readerOf(disk));
        const last = allocated.at(-1);
        assert.ok(last === undefined || last.offsetBytes + last.lengthBytes <= size);
      }),
      { numRuns: 300 },
    );
  });

  test('fails with what the reader says when it cannot be read', async () => {
    const reader: ByteReader = {
      sizeBytes: 100 * KIB,
      read: () => Promise.reject(new IngotError('source-unreadable', 'I/O error')),
    };
    await assert.rejects(readDiskMap(reader), (thrown) => isFailure(thrown, 'source-unreadable'));
  });

  test('stops when it is aborted', async () => {
    const signal = AbortSignal.abort(new Error('enough'));
    await assert.rejects(readDiskMap(readerOf(Buffer.alloc(8192)), { signal }), /enough/);
  });
});
