import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, openSync, readFileSync, rmSync, truncateSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { crc32, inflateRawSync, constants as zlib } from 'node:zlib';
import { isFailure } from '../../../../base/index.ts';
import { MAX_CHUNK_BYTES } from '../../../../bytes/index.ts';
import { openFastestCodec } from '../../../../keep/adapters/fastest-segment-codec.ts';
import { zlibSegmentCodec } from '../../../../keep/adapters/zlib-segment-codec.ts';
import { codeFile } from './coded-file.ts';

const folder = mkdtempSync(join(tmpdir(), 'ingot-coded-file-'));
after(() => rmSync(folder, { recursive: true, force: true }));

/** Bytes that shrink, and others that do not. */
function mixed(lengthBytes: number, name: string): Buffer {
  const noise = createHash('shake128', { outputLength: lengthBytes }).update(name).digest();
  return noise.fill(`${name} `, 0, lengthBytes >> 1);
}

/** A file with data at these places, and holes between. */
function fileOf(name: string, sizeBytes: number, places: readonly (readonly [number, number])[]) {
  const path = join(folder, name);
  const fd = openSync(path, 'w');
  for (const [at, lengthBytes] of places) {
    writeSync(fd, mixed(lengthBytes, `${name} ${at}`), 0, lengthBytes, at);
  }
  truncateSync(path, sizeBytes);
  return path;
}

const N = MAX_CHUNK_BYTES;
const FILES = [
  fileOf('hole', 5 * N + 1, []),
  fileOf('odd', 9 * N + 77, [[0, 9 * N + 77]]),
  fileOf('between', 40 * N, [
    [N - 5000, 9000],
    [20 * N, 3 * N],
    [39 * N, 10],
  ]),
];

describe('a file that is coded by threads', () => {
  test('is the segments of its pieces in order, with their CRCs, and its zeros', async () => {
    for (const engine of new Set([zlibSegmentCodec.name, (await openFastestCodec()).codec.name])) {
      for (const path of FILES) {
        const plain = readFileSync(path);
        let at = 0;
        for await (const { own, crc32: pieceCrc32, plainBytes } of codeFile(path, engine)) {
          const piece = plain.subarray(at, at + plainBytes);
          at += plainBytes;
          assert.equal(pieceCrc32, crc32(piece), `${path} before ${at}`);
          if (own === undefined) {
            assert.ok(piece.equals(Buffer.alloc(plainBytes)), `${path} before ${at}`);
            continue;
          }
          assert.ok(plainBytes === N || at === plain.length, `${path} before ${at}`);
          const decoded = inflateRawSync(own, { finishFlush: zlib.Z_SYNC_FLUSH });
          assert.ok(decoded.equals(piece), `${path} before ${at}`);
          if (engine !== zlibSegmentCodec.name) continue;
          assert.ok((await zlibSegmentCodec.encode(piece)).equals(own), `${path} before ${at}`);
        }
        assert.equal(at, plain.length, path);
      }
    }
  });

  test('gives more than it had when it grows meanwhile, so that nobody takes it for whole', async () => {
    const path = fileOf('growing', 30 * N, [[0, 30 * N]]);
    let gotBytes = 0;
    for await (const { plainBytes } of codeFile(path, zlibSegmentCodec.name, 1)) {
      if (gotBytes === 0) truncateSync(path, 31 * N);
      gotBytes += plainBytes;
    }
    assert.ok(gotBytes > 30 * N);
  });

  test('can be left early, by one thread and by several', async () => {
    for (const threads of [1, 3]) {
      for await (const piece of codeFile(FILES[1] ?? '', zlibSegmentCodec.name, threads)) {
        assert.ok(piece.plainBytes > 0);
        break;
      }
    }
  });

  test('names a file that is not there, or cannot be read', async () => {
    for (const [path, code] of [
      [join(folder, 'missing'), 'file-not-found'],
      [folder, 'source-unreadable'],
    ] as const) {
      await assert.rejects(codeFile(path, zlibSegmentCodec.name).next(), (thrown) =>
        isFailure(thrown, code),
      );
    }
  });
});
