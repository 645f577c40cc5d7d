import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ALIGNMENT_BYTES, alignedMemory } from './aligned-memory.ts';

test('memory begins at an aligned address, wherever its room lies', () => {
  for (const address of [0n, 1n, 16n, 4095n, 4096n, 0x7f00_1234_5010n]) {
    const memory = alignedMemory(
      10_000,
      () => address,
      (lengthBytes) => Buffer.alloc(lengthBytes),
    );
    assert.equal(memory.length, 10_000);
    const skip = BigInt(memory.byteOffset);
    assert.equal((address + skip) % BigInt(ALIGNMENT_BYTES), 0n);
    assert.ok(skip < BigInt(ALIGNMENT_BYTES));
  }
});
