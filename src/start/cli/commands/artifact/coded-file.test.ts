import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { crc32, inflateRawSync, constants as zlib } from 'node:zlib';
import { type Digest, isFailure } from '../../../../base/index.ts';
import { MAX_CHUNK_BYTES } from '../../../../bytes/index.ts';
import { openFastestCodec } from '../../../../keep/adapters/fastest-segment-codec.ts';
import { WASM_NAME } from '../../../../keep/adapters/wasm-segment-engine.ts';
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

/** What zlib makes of bytes, chunk by chunk. */
async function segmentsOf(plain: Buffer): Promise<Buffer> {
  const segments: Uint8Array[] = [];
  for (let at = 0; at < plain.length; at += N) {
    segments.push(await zlibSegmentCodec.encode(plain.subarray(at, at + N)));
  }
  return Buffer.concat(segments);
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

const ZLIB = zlibSegmentCodec.name;
const hashed = { digest: undefined, signal: undefined, onBytes: () => undefined };

/** Takes all pieces. @returns what is said of them at the end */
async function drain(coding: ReturnType<typeof codeFile>, onPiece = (): void => undefined) {
  for (;;) {
    const { done, value } = await coding.next();
    if (done === true) return value;
    onPiece();
  }
}

describe('a file that is coded by threads', () => {
  test('is the segments of its chunks in order, with their CRCs, and its zeros', async () => {
    for (const engine of new Set([ZLIB, WASM_NAME, (await openFastestCodec()).codec.name])) {
      for (const path of FILES) {
        const plain = readFileSync(path);
        let at = 0;
        const coding = codeFile(path, engine, hashed);
        for await (const { own, crc32: pieceCrc32, plainBytes } of coding) {
          const piece = plain.subarray(at, at + plainBytes);
          const where = `${path} at ${at}`;
          at += plainBytes;
          assert.equal(pieceCrc32, crc32(piece), where);
          if (own === undefined) {
            assert.ok(piece.equals(Buffer.alloc(plainBytes)), where);
            continue;
          }
          assert.ok(plainBytes % N === 0 || at === plain.length, where);
          const decoded = inflateRawSync(own, { finishFlush: zlib.Z_SYNC_FLUSH });
          assert.ok(decoded.equals(piece), where);
          if (engine !== ZLIB) continue;
          assert.ok((await segmentsOf(piece)).equals(own), where);
        }
        assert.equal(at, plain.length, path);
      }
    }
  });

  test('ends with its digest, by one thread and by several, and with one that was known', async () => {
    for (const path of FILES) {
      const plain = readFileSync(path);
      const digest = createHash('sha256').update(plain).digest('hex') as Digest;
      const whole = { digest, crc32: crc32(plain), sizeBytes: plain.length };
      for (const threads of [1, 3]) {
        const told: number[] = [];
        const onBytes = (bytes: number): void => void told.push(bytes);
        const found = await drain(codeFile(path, ZLIB, { ...hashed, onBytes }, threads));
        assert.deepEqual(found, whole, path);
        assert.equal(told.at(-1), plain.length);
        assert.deepEqual(
          told,
          told.toSorted((a, b) => a - b),
        );
      }
      const known = '0'.repeat(64) as Digest;
      const again = await drain(codeFile(path, ZLIB, { ...hashed, digest: known }, 2));
      assert.deepEqual(again, { ...whole, digest: known }, path);
    }
  });

  test('is refused when it grows, shrinks or is written to meanwhile', async () => {
    const changes = {
      growing: (path: string) => truncateSync(path, 201 * N),
      shrinking: (path: string) => truncateSync(path, 100 * N),
      written: (path: string) => writeFileSync(path, 'other', { flag: 'r+' }),
    };
    for (const [name, change] of Object.entries(changes)) {
      const path = fileOf(name, 200 * N, [[0, 200 * N]]);
      // The clock of timestamps ticks every few milliseconds.
      utimesSync(path, 1, 1);
      let pieces = 0;
      const coding = codeFile(path, ZLIB, hashed, 1);
      const draining = drain(coding, () => {
        pieces += 1;
        if (pieces === 1) change(path);
      });
      await assert.rejects(draining, (thrown) => isFailure(thrown, 'content-changed'), name);
    }
  });

  test('can be left early, and given up while a long hole is hashed', async () => {
    for (const threads of [1, 3]) {
      for await (const piece of codeFile(FILES[1] ?? '', ZLIB, hashed, threads)) {
        assert.ok(piece.plainBytes > 0);
        break;
      }
    }
    const path = fileOf('huge', 2 ** 40, [[0, 10]]);
    const stop = new AbortController();
    const onBytes = (bytes: number): void => {
      if (bytes > 4 * N) stop.abort(new Error('enough'));
    };
    const coding = codeFile(path, ZLIB, { ...hashed, signal: stop.signal, onBytes }, 2);
    await assert.rejects(drain(coding), /enough/);
  });

  test('names a file that is not there, or cannot be read', async () => {
    for (const [path, code] of [
      [join(folder, 'missing'), 'file-not-found'],
      [folder, 'source-unreadable'],
    ] as const) {
      await assert.rejects(codeFile(path, ZLIB, hashed).next(), (thrown) =>
        isFailure(thrown, code),
      );
    }
  });
});
