import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { DirectWriter } from './direct-writer.ts';

const MIB = 1024 * 1024;

/** Does something with a writer of a new file. @returns what the file holds then */
async function written(
  folder: string,
  body: (writer: DirectWriter, file: FileHandle) => Promise<void>,
): Promise<Buffer | undefined> {
  const path = join(folder, 'file');
  await using file = await open(path, 'w');
  await using writer = await DirectWriter.open(file);
  if (writer === undefined) return undefined;
  await body(writer, file);
  return readFileSync(path);
}

const folder = mkdtempSync(join(tmpdir(), 'ingot-direct-'));
test.after(() => rmSync(folder, { recursive: true, force: true }));

const probe = await written(folder, async () => undefined);
const skip = probe === undefined ? `${tmpdir()} takes no direct writes` : false;

test('a direct writer leaves every byte at its place, whatever its ends are', {
  skip,
}, async () => {
  const run = fc.record({
    gapBytes: fc.constantFrom(0, 0, 1, 512, 1536, 4096, 70_000, 3 * MIB),
    lengthBytes: fc.constantFrom(1, 511, 1024, 4096, 12_288, 65_536, 2 * MIB, 5 * MIB + 77),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(run, { minLength: 1, maxLength: 9 }), async (runs) => {
      const sizeBytes = runs.reduce((sum, r) => sum + r.gapBytes + r.lengthBytes, 0);
      const wanted = Buffer.alloc(sizeBytes);
      const found = await written(folder, async (writer) => {
        let at = 0;
        for (const [i, { gapBytes, lengthBytes }] of runs.entries()) {
          at += gapBytes;
          const bytes = Buffer.alloc(lengthBytes, i + 1);
          bytes.writeUInt8(0xee, lengthBytes - 1);
          bytes.copy(wanted, at);
          await writer.write(bytes, at);
          // Its memory is the caller's again.
          bytes.fill(0xff);
          at += lengthBytes;
        }
        await writer.flush();
      });
      assert.ok(found?.equals(wanted));
    }),
    { numRuns: 25 },
  );
});

test('a write that failed is heard of at the next one or at the flush', { skip }, async () => {
  await written(folder, async (_, file) => {
    const readOnly = await open(`/proc/self/fd/${file.fd}`, 'r');
    await using writer = await DirectWriter.open(readOnly);
    // The end of it fills no block, so it goes through what cannot be written.
    await writer?.write(Buffer.alloc(5000, 1), 0);
    await assert.rejects(async () => writer?.flush(), { code: 'EBADF' });
    await readOnly.close();
  });
});
