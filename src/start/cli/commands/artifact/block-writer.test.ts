import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { MIB } from '../../../../base/index.ts';
import { BlockWriter } from './block-writer.ts';

const BYTES = randomBytes(9 * MIB);

async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of createReadStream(path)) hash.update(piece as Buffer);
  return hash.digest('hex');
}

describe('a writer of blocks', () => {
  let folder = '';
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'ingot-blocks-'));
  });
  after(() => rm(folder, { recursive: true }));

  test('writes what it was given, in pieces of any length and with flushes between', async () => {
    const path = join(folder, 'file');
    const piece = fc.record({
      sizeBytes: fc.oneof(
        fc.nat(5000),
        fc.integer({ min: 60_000, max: 70_000 }),
        fc.nat(BYTES.length),
        fc.constant(4 * MIB),
      ),
      fromByte: fc.nat(100),
      isFlushed: fc.integer({ min: 0, max: 5 }).map((n) => n === 0),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(piece, { maxLength: 8 }), async (pieces) => {
        const wanted = createHash('sha256');
        let wantedBytes = 0;
        await using handle = await open(path, 'w');
        await using writer = new BlockWriter(handle);
        for (const { sizeBytes, fromByte, isFlushed } of pieces) {
          // The writer's own again when `write` returns: what is done to it then must not matter.
          const bytes = Buffer.from(BYTES.subarray(fromByte, fromByte + sizeBytes));
          wanted.update(bytes);
          wantedBytes += bytes.length;
          await writer.write(bytes);
          bytes.fill(0xee);
          if (isFlushed) await writer.flush();
        }
        await writer.flush();
        assert.equal(writer.sizeBytes, wantedBytes);
        assert.equal(await sha256Of(path), wanted.digest('hex'));
      }),
      { numRuns: 25 },
    );
  });

  test('tells a later write, or the flush, that the disk is full', async () => {
    await using handle = await open('/dev/full', 'w');
    await using writer = new BlockWriter(handle);
    await assert.rejects(
      async () => {
        for (let i = 0; i < 8; i++) await writer.write(BYTES.subarray(0, 4 * MIB));
      },
      { code: 'ENOSPC' },
    );
    await assert.rejects(writer.flush(), { code: 'ENOSPC' });
  });
});
