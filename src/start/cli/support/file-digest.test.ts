import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, openSync, readFileSync, rmSync, truncateSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { crc32 } from 'node:zlib';
import { isFailure } from '../../../base/index.ts';
import { openFastestCodec } from '../../../keep/adapters/fastest-segment-codec.ts';
import { digestOfFile } from './file-digest.ts';

const folder = mkdtempSync(join(tmpdir(), 'ingot-file-digest-'));
after(() => rmSync(folder, { recursive: true, force: true }));

/** A file of so many bytes with a little data at these places, and holes between. */
function sparseFile(name: string, sizeBytes: number, places: readonly number[]): string {
  const path = join(folder, name);
  const fd = openSync(path, 'w');
  for (const place of places) writeSync(fd, Buffer.alloc(5000, `data at ${place}`), 0, 5000, place);
  truncateSync(path, sizeBytes);
  return path;
}

describe('the digest of a file on a thread of its own', () => {
  test('is that of its bytes, wherever its holes are, and so is the CRC', async () => {
    const engines = new Set(['zlib-2', 'wasm-1', (await openFastestCodec()).codec.name]);
    const files = [
      sparseFile('empty', 0, []),
      sparseFile('hole', 700_001, []),
      sparseFile('first', 900_000, [0]),
      sparseFile('last', 1_005_000, [1_000_000]),
      sparseFile('between', 3_000_000, [300_000, 1_048_576, 1_060_000]),
    ];
    for (const path of files) {
      const plain = readFileSync(path);
      for (const engine of engines) {
        const told: number[] = [];
        const found = await digestOfFile(path, engine, { onBytes: (bytes) => told.push(bytes) });
        const digest = createHash('sha256').update(plain).digest('hex');
        assert.deepEqual(found, { digest, crc32: crc32(plain), sizeBytes: plain.length }, path);
        assert.equal(told.at(-1), plain.length);
      }
    }
  });

  test('names a file that cannot be read', async () => {
    await assert.rejects(digestOfFile(join(folder, 'missing'), 'zlib-2'), (thrown) =>
      isFailure(thrown, 'source-unreadable'),
    );
  });

  test('ends at once when nobody wants it any more', async () => {
    const path = sparseFile('huge', 2 ** 40, []);
    const stop = new AbortController();
    const digest = digestOfFile(path, 'zlib-2', {
      signal: stop.signal,
      onBytes: () => stop.abort(new Error('enough')),
    });
    await assert.rejects(digest, /enough/);
  });
});
