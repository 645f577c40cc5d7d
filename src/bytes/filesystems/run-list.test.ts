import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { RunList } from './run-list.ts';

const BYTES = 200;
const runs = fc.array(fc.tuple(fc.nat(BYTES - 1), fc.nat(20)), { maxLength: 60 });

function listOf(pairs: readonly [number, number][], list = new RunList('join-gaps')): RunList {
  for (const [start, length] of pairs) list.add(start, start + length);
  return list;
}

function bytesOf(list: RunList): Set<number> {
  const bytes = new Set<number>();
  for (const { offsetBytes, lengthBytes } of list.extents()) {
    for (let i = 0; i < lengthBytes; i++) bytes.add(offsetBytes + i);
  }
  return bytes;
}

const isSubset = (part: Set<number>, all: Set<number>): boolean =>
  [...part].every((byte) => all.has(byte));

describe('a list of runs', () => {
  test('holds exactly what was added, ascending and merged, in whatever order it came', () => {
    fc.assert(
      fc.property(runs, (pairs) => {
        const expected = new Set<number>();
        for (const [start, length] of pairs) {
          for (let i = 0; i < length; i++) expected.add(start + i);
        }
        const list = listOf(pairs);
        assert.deepEqual(bytesOf(list), expected);
        assert.equal(list.totalBytes, expected.size);
        const extents = [...list.extents()];
        for (const [i, extent] of extents.entries()) {
          const next = extents[i + 1];
          if (next !== undefined) {
            assert.ok(extent.offsetBytes + extent.lengthBytes < next.offsetBytes);
          }
        }
      }),
    );
  });

  test('without another list it holds the difference', () => {
    fc.assert(
      fc.property(runs, runs, (first, second) => {
        const difference = listOf(first).without(listOf(second));
        const removed = bytesOf(listOf(second));
        const expected = [...bytesOf(listOf(first))].filter((byte) => !removed.has(byte));
        assert.deepEqual(bytesOf(difference), new Set(expected));
      }),
    );
  });

  test('that must not lose bytes joins over gaps when it is full', () => {
    fc.assert(
      fc.property(runs, (pairs) => {
        const full = listOf(pairs, new RunList('join-gaps', 8));
        assert.ok([...full.extents()].length <= 8);
        assert.ok(isSubset(bytesOf(listOf(pairs)), bytesOf(full)));
      }),
    );
  });

  test('that must not gain bytes forgets short runs when it is full', () => {
    fc.assert(
      fc.property(runs, (pairs) => {
        const full = listOf(pairs, new RunList('forget-short', 8));
        assert.ok([...full.extents()].length <= 8);
        assert.ok(isSubset(bytesOf(full), bytesOf(listOf(pairs))));
      }),
    );
  });
});
