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

test('a buffer between the largest of Node’s pool and the pool itself is given back too', () => {
  const between = Buffer.allocUnsafe(Buffer.poolSize - 4096);
  releaseMemory(between);
  assert.equal(between.byteLength, 0);
});

test('a buffer as long as Node’s pool, such as a read of a pipe, is given back too', () => {
  const own = Buffer.allocUnsafeSlow(Buffer.poolSize);
  releaseMemory(own);
  assert.equal(own.byteLength, 0);
});
