import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { MIB } from '../../base/index.ts';
import { SharedMemory } from './shared-memory.ts';

const BUFFER_BYTES = 32 * MIB;

/** Memory of this process that is in use, in bytes. */
function residentBytes(): number {
  const line = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'));
  return Number(line?.[1]) * 1024;
}

async function until(isSo: () => boolean): Promise<void> {
  for (const deadline = performance.now() + 30_000; !isSo(); ) {
    assert.ok(performance.now() < deadline, 'it never happens');
    await new Promise((resolve) => setImmediate(resolve));
  }
}

describe('memory that threads share', () => {
  test('goes back to the system when nobody has any of it, and can be had again', async () => {
    const memory = new SharedMemory(BUFFER_BYTES, 2);
    const beforeBytes = residentBytes();
    const [one, two] = [await memory.lend(BUFFER_BYTES), await memory.lend(BUFFER_BYTES)];
    for (const { bytes } of [one, two]) bytes.fill(1);
    assert.ok(residentBytes() - beforeBytes > 1.8 * BUFFER_BYTES);
    const { bytes } = one;
    one[Symbol.dispose]();
    two[Symbol.dispose]();
    await until(() => residentBytes() - beforeBytes < 0.2 * BUFFER_BYTES);
    // All of it, to the last byte, and nothing beside it.
    assert.ok(bytes.every((byte) => byte === 0));
    using again = await memory.lend(BUFFER_BYTES);
    again.bytes.fill(2);
    assert.ok(again.bytes.every((byte) => byte === 2));
  });

  test('stays as it is while anybody has some of it', async () => {
    const memory = new SharedMemory(BUFFER_BYTES, 3);
    const other = new SharedMemory(MIB, 1);
    const kept = await memory.lend(BUFFER_BYTES);
    kept.bytes.fill(1);
    for (let turn = 0; turn < 2; turn++) (await memory.lend(BUFFER_BYTES))[Symbol.dispose]();
    // Another pool, begun later, has given its memory back: this one's time would have come too.
    const { bytes, ...lent } = await other.lend(MIB);
    bytes.fill(1);
    lent[Symbol.dispose]();
    await until(() => bytes[0] === 0);
    assert.ok(kept.bytes.every((byte) => byte === 1));
    kept[Symbol.dispose]();
    using again = await memory.lend(BUFFER_BYTES);
    assert.equal(again.bytes.byteLength, BUFFER_BYTES);
  });
});
