import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import fc from 'fast-check';
import { isFailure } from '../../base/index.ts';
import { nextData } from './libc.ts';
import { writeSparse } from './sparse-file.ts';

const folder = mkdtempSync(join(tmpdir(), 'ingot-sparse-'));
after(() => rmSync(folder, { recursive: true }));
const path = join(folder, 'file');
const signal = new AbortController().signal;

async function* pieces(...given: Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* given;
}

async function write(given: readonly Uint8Array[], keepFreeBytes = 0): Promise<Buffer> {
  rmSync(path, { force: true });
  await writeSparse(pieces(...given), { path, name: 'the spool', keepFreeBytes, signal });
  return readFileSync(path);
}

describe('a sparse file', () => {
  test('has the bytes of the stream, however it is cut into pieces', async () => {
    const run = fc.record({
      byte: fc.constantFrom(0, 0, 7),
      lengthBytes: fc.oneof(fc.integer({ min: 1, max: 9000 }), fc.constantFrom(4096, 65_536)),
    });
    const cuts = fc.array(fc.integer({ min: 1, max: 70_000 }), { maxLength: 8 });
    await fc.assert(
      fc.asyncProperty(fc.array(run, { maxLength: 12 }), cuts, async (runs, lengths) => {
        const plain = Buffer.concat(runs.map((one) => Buffer.alloc(one.lengthBytes, one.byte)));
        const given: Buffer[] = [];
        let at = 0;
        for (const length of [...lengths, plain.byteLength]) {
          given.push(plain.subarray(at, at + length));
          at = Math.min(plain.byteLength, at + length);
        }
        assert.ok((await write(given)).equals(plain));
      }),
      { numRuns: 60 },
    );
  });

  test('has a hole for each long run of zero blocks, as long as it is, and for no short one', async () => {
    const data = Buffer.alloc(4096, 1);
    const written = [data, Buffer.alloc(61_440), data, Buffer.alloc(73_728), data];
    await write([Buffer.concat(written).subarray(0, 5000), Buffer.concat(written).subarray(5000)]);
    const fd = openSync(path, 'r');
    try {
      assert.deepEqual(nextData(fd, 0), { start: 0, end: 69_632 });
      assert.deepEqual(nextData(fd, 69_632), { start: 143_360, end: 147_456 });
    } finally {
      closeSync(fd);
    }
    await write([Buffer.alloc(10_000_001)]);
    assert.deepEqual([statSync(path).size, statSync(path).blocks <= 8], [10_000_001, true]);
  });

  test('leaves the space free that it was told to', async () => {
    const keepFreeBytes = Number.MAX_SAFE_INTEGER;
    await assert.rejects(write([Buffer.alloc(5000, 1)], keepFreeBytes), (thrown) =>
      isFailure(thrown, 'target-full'),
    );
    await write([Buffer.alloc(4096)], keepFreeBytes);
  });
});
