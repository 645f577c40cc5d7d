import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MARK_BYTES, SecretMarks } from './secret-marks.ts';

test('the same bytes have the same mark, and others another', () => {
  const marks = new SecretMarks();
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 1, maxLength: 9000 }),
      fc.nat(),
      fc.integer({ min: 1, max: 255 }),
      (bytes, place, change) => {
        const mark = marks.markOf(bytes);
        assert.equal(mark.byteLength, MARK_BYTES);
        assert.ok(mark.equals(marks.markOf(Buffer.from(bytes))));
        const other = Buffer.from(bytes);
        const at = place % other.byteLength;
        other[at] = (other[at] ?? 0) ^ change;
        assert.ok(!mark.equals(marks.markOf(other)));
      },
    ),
  );
});

test('zeros at the end are part of what is marked', () => {
  const marks = new SecretMarks();
  const bytes = Buffer.alloc(64);
  const seen = new Set(
    Array.from({ length: 65 }, (_, length) =>
      marks.markOf(bytes.subarray(0, length)).toString('hex'),
    ),
  );
  assert.equal(seen.size, 65);
});

test('each run has a key of its own, so that nobody can look for bytes with one mark', () => {
  const bytes = Buffer.from('some bytes');
  assert.ok(!new SecretMarks().markOf(bytes).equals(new SecretMarks().markOf(bytes)));
});
