import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import { test } from 'node:test';
import { DigestSet } from './digest-set.ts';

const digest = (n: number): Buffer => hash('sha256', String(n), 'buffer');

test('a digest is new once', () => {
  const set = new DigestSet(100_000);
  for (let n = 0; n < 20_000; n++) assert.equal(set.add(digest(n)), true);
  for (let n = 0; n < 20_000; n++) assert.equal(set.add(digest(n)), false);
  assert.equal(set.size, 20_000);
});

test('a full set starts anew instead of growing', () => {
  const set = new DigestSet(3000);
  for (let n = 0; n < 10_000; n++) set.add(digest(n));
  assert.ok(set.size <= 3000);
  assert.equal(set.add(digest(9999)), false);
});
