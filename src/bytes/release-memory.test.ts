import assert from 'node:assert/strict';
import { test } from 'node:test';
import { releaseMemory } from './release-memory.ts';

test('a large buffer is empty afterwards', () => {
  const large = Buffer.alloc(100_000);
  releaseMemory(large);
  assert.equal(large.byteLength, 0);
});

test('a small buffer is left alone, for others lie beside it', () => {
  const [one, other] = [Buffer.from('one'), Buffer.from('other')];
  assert.equal(one.buffer, other.buffer);
  releaseMemory(one);
  assert.equal(other.toString(), 'other');
});
