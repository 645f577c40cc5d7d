import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { FileExtentList } from './file-extent-list.ts';

describe('a list of file extents', () => {
  test('ends sorted and without overlaps, and every byte keeps a place in its file', () => {
    const extent = fc.tuple(fc.nat(300), fc.integer({ min: 1, max: 30 }), fc.nat(1000));
    fc.assert(
      fc.property(fc.array(extent, { maxLength: 40 }), (extents) => {
        const list = new FileExtentList();
        for (const [disk, length, file] of extents) list.add(disk, length, file);
        const { diskOffsets, lengths, fileOffsets } = list.finish();
        const given = new Set<string>();
        const bytes = new Set<number>();
        for (const [disk, length, file] of extents) {
          for (let i = 0; i < length; i++) {
            given.add(`${disk + i}:${file + i}`);
            bytes.add(disk + i);
          }
        }
        let end = 0;
        let total = 0;
        for (let i = 0; i < diskOffsets.length; i++) {
          const disk = diskOffsets[i] ?? 0;
          assert.ok(disk >= end);
          end = disk + (lengths[i] ?? 0);
          total += lengths[i] ?? 0;
          for (let k = 0; k < (lengths[i] ?? 0); k++) {
            assert.ok(given.has(`${disk + k}:${(fileOffsets[i] ?? 0) + k}`));
          }
        }
        assert.equal(total, bytes.size);
      }),
    );
  });

  test('that is full keeps the long extents', () => {
    const list = new FileExtentList(16);
    for (let i = 0; i < 100; i++) list.add(i * 1e6, i % 10 === 0 ? 65_536 : 4096, 0);
    const { lengths } = list.finish();
    assert.ok(lengths.length <= 16);
    assert.equal(lengths.filter((length) => length === 65_536).length, 10);
  });
});
