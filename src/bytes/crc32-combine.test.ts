import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { combineCrc32, crc32OfZeros } from './crc32-combine.ts';

test('the CRC of joined parts is the combined CRC of the parts', () => {
  const parts = fc.array(fc.uint8Array({ maxLength: 3000 }), { maxLength: 12 });
  fc.assert(
    fc.property(parts, (plain) => {
      let combined = 0;
      for (const part of plain) combined = combineCrc32(combined, crc32(part), part.byteLength);
      assert.equal(combined, crc32(Buffer.concat(plain)));
    }),
  );
});

test('the CRC of zeros is that of a buffer of zeros', () => {
  for (const length of [0, 1, 2, 3, 511, 4096, 65_537, 1_000_003]) {
    assert.equal(crc32OfZeros(length), crc32(Buffer.alloc(length)), String(length));
  }
});

test('lengths beyond 32 bits combine like their parts', () => {
  const half = 3 * 2 ** 40 + 12_345;
  const whole = combineCrc32(crc32OfZeros(half), crc32OfZeros(half), half);
  assert.equal(crc32OfZeros(2 * half), whole);
});

test('sixteen thousand parts of chunk lengths combine within a moment', () => {
  const lengths = Array.from({ length: 16_000 }, (_, i) => 4096 * (1 + (i % 64)));
  const started = process.cpuUsage();
  let crc = 0;
  for (const [i, length] of lengths.entries()) crc = combineCrc32(crc, i, length);
  // Not by a clock on the wall: others may have the core.
  const { user, system } = process.cpuUsage(started);
  const ms = (user + system) / 1000;
  assert.ok(ms < 500, `${ms} ms`);
  assert.notEqual(crc, 0);
});
