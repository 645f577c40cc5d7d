import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { OffsetTable } from './offset-table.ts';

test('the part that holds a byte is the one that a walk from the start finds', () => {
  const lengths = fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 40 });
  fc.assert(
    fc.property(lengths, fc.nat(250), (parts, offset) => {
      const table = new OffsetTable(parts);
      let start = 0;
      let expected = parts.findIndex((length) => {
        start += length;
        return offset < start;
      });
      if (expected === -1) expected = parts.length;
      assert.equal(table.partAt(offset), expected);
      if (expected < parts.length) {
        assert.ok(table.startOf(expected) <= offset && offset < table.startOf(expected + 1));
      }
      assert.equal(
        table.totalBytes,
        parts.reduce((sum, length) => sum + length, 0),
      );
    }),
  );
});

test('a part that is not there is a bug', () => {
  assert.throws(() => new OffsetTable([1]).startOf(2), RangeError);
});
