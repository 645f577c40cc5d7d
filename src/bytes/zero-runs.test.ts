import assert from 'node:assert/strict';
import { test } from 'node:test';
import { constants, gunzipSync, inflateRawSync } from 'node:zlib';
import fc from 'fast-check';
import { digestOf } from '../base/index.ts';
import { crc32OfZeros } from './crc32-combine.ts';
import { GZIP_HEADER, gzipTrailer } from './gzip-splice.ts';
import { zeroSegments, zeroSegmentsBytes } from './zero-runs.ts';

test('zero segments never change: their bytes are part of the format', () => {
  const all: Buffer[] = [];
  for (let power = 0; power <= 24; power++) all.push(...zeroSegments(2 ** power));
  assert.deepEqual(
    all.map((segment) => segment.byteLength),
    GOLDEN_LENGTHS,
  );
  assert.equal(digestOf(Buffer.concat(all)), GOLDEN_DIGEST);
});

test('each zero segment inflates alone to its power of two', () => {
  for (let power = 0; power <= 24; power++) {
    const [segment = Buffer.of()] = zeroSegments(2 ** power);
    const plain = inflateRawSync(segment, { finishFlush: constants.Z_SYNC_FLUSH });
    assert.ok(plain.equals(Buffer.alloc(2 ** power)), `2^${power}`);
  }
});

test('a hole of any length unpacks to zeros of that length', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 40 * 1024 * 1024 }), (length) => {
      const coded = [...zeroSegments(length)];
      const file = Buffer.concat([
        GZIP_HEADER,
        ...coded,
        gzipTrailer(crc32OfZeros(length), length),
      ]);
      assert.equal(file.byteLength, 20 + zeroSegmentsBytes(length));
      const plain = gunzipSync(file);
      assert.equal(plain.byteLength, length);
      assert.ok(plain.equals(Buffer.alloc(length)));
    }),
    { numRuns: 12 },
  );
});

test('reading a hole from any coded byte gives the rest of its segments', () => {
  const length = 3 * 2 ** 24 + 5 * 4096 + 513;
  const whole = Buffer.concat([...zeroSegments(length)]);
  fc.assert(
    fc.property(fc.integer({ min: 0, max: whole.byteLength }), (from) => {
      assert.ok(Buffer.concat([...zeroSegments(length, from)]).equals(whole.subarray(from)));
    }),
  );
});

test('a hole of a PiB has a length at once', () => {
  assert.equal(zeroSegmentsBytes(2 ** 50), 2 ** 26 * zeroSegmentsBytes(2 ** 24));
});

const GOLDEN_LENGTHS = [
  52, 52, 53, 53, 53, 53, 53, 53, 53, 54, 54, 55, 57, 61, 69, 84, 116, 180, 307, 561, 1069, 2085,
  4117, 8182, 16310,
];
const GOLDEN_DIGEST = '937f4e9efeaa245fc276622da6f0244b4fc1df0b5469913eae738947a4391007';
