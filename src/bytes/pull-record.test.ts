import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  encodePullFileHead,
  encodePullRecord,
  PULL_FILE_HEAD_BYTES,
  PULL_RECORD_HEAD_BYTES,
  parsePullFileHead,
  parsePullRecord,
  parsePullRecordHead,
} from './pull-record.ts';

const SIZE_BYTES = 1024 * 1024;

const ranges = fc
  .uniqueArray(fc.integer({ min: 0, max: 255 }), { minLength: 1, maxLength: 20 })
  .map((blocks) =>
    blocks
      .sort((a, b) => a - b)
      .map((block) => ({ offsetBytes: block * 4096, lengthBytes: 4096 - (block % 2) * 512 })),
  );

test('a record gives the ranges and the length of the frame back', () => {
  fc.assert(
    fc.property(ranges, fc.integer({ min: 1, max: 1_000_000 }), (some, frameBytes) => {
      const record = encodePullRecord(some, frameBytes);
      const head = parsePullRecordHead(record.subarray(0, PULL_RECORD_HEAD_BYTES));
      const rangesBytes = record.length - PULL_RECORD_HEAD_BYTES;
      assert.deepEqual(head, { rangesBytes, frameBytes });
      assert.deepEqual(parsePullRecord(record, SIZE_BYTES), some);
    }),
  );
});

test('a record with any bit changed is none, or says another length', () => {
  fc.assert(
    fc.property(ranges, fc.nat(), (some, at) => {
      const record = encodePullRecord(some, 1000);
      const bit = at % (record.length * 8);
      const index = Math.floor(bit / 8);
      record[index] = (record[index] ?? 0) ^ (1 << (bit % 8));
      const head = parsePullRecordHead(record.subarray(0, PULL_RECORD_HEAD_BYTES));
      if (head !== undefined) assert.equal(parsePullRecord(record, SIZE_BYTES), undefined);
    }),
  );
});

test('a record of another disk or in no order is none', () => {
  const one = { offsetBytes: 4096, lengthBytes: 4096 };
  assert.equal(parsePullRecord(encodePullRecord([one], 9), 8191), undefined);
  assert.equal(parsePullRecord(encodePullRecord([one, one], 9), SIZE_BYTES), undefined);
});

test('the beginning of a pull file names the size of the disk', () => {
  const head = encodePullFileHead(SIZE_BYTES);
  assert.equal(head.length, PULL_FILE_HEAD_BYTES);
  assert.equal(parsePullFileHead(head), SIZE_BYTES);
  head.write('x');
  assert.equal(parsePullFileHead(head), undefined);
});
