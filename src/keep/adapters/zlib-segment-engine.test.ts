import assert from 'node:assert/strict';
import { createHash, hash } from 'node:crypto';
import { describe, test } from 'node:test';
import {
  constants,
  createDeflateRaw,
  createInflateRaw,
  deflateRawSync,
  inflateRawSync,
} from 'node:zlib';
import { storedSegmentBytes } from '../../bytes/index.ts';
import { zlibSegmentCodec } from './zlib-segment-codec.ts';
import { callsOfZlib, openZlibSegmentEngine } from './zlib-segment-engine.ts';
import { type ZlibProgress, ZlibState } from './zlib-state.ts';

/** Bytes that do not compress, the same in each run. */
function noise(sizeBytes: number): Buffer {
  return createHash('shake128', { outputLength: sizeBytes }).update('noise').digest();
}

/** As programs are: bytes that are not equally often there, and few matches. */
function halfNoise(sizeBytes: number): Buffer {
  return noise(sizeBytes).map((byte, i) => (i % 3 === 0 ? byte : byte & 0x0f)) as Buffer;
}

const text = Buffer.from(
  Array.from({ length: 9000 }, (_, i) => `line ${i} of ${i * i}\n`).join(''),
).subarray(0, 200_000);

const shapes: Readonly<Record<string, Buffer>> = {
  text,
  noise: noise(200_000),
  'a little noise': noise(5000),
  'half noise': halfNoise(150_000),
  'noise that repeats': Buffer.concat(Array.from({ length: 60 }, () => noise(4096))),
  'a byte': Buffer.from('x'),
};

describe('segments by Node’s zlib on one thread', () => {
  test('are the same as those of its calls, whatever was coded before', async () => {
    const engine = openZlibSegmentEngine();
    const calls = openZlibSegmentEngine(callsOfZlib);
    for (const before of Object.values(shapes)) {
      for (const [name, plain] of Object.entries(shapes)) {
        const target = Buffer.alloc(storedSegmentBytes(plain.byteLength));
        engine.encodeInto(before, Buffer.alloc(storedSegmentBytes(before.byteLength)));
        const coded = target.subarray(0, engine.encodeInto(plain, target));
        const other = Buffer.alloc(target.byteLength);
        const otherBytes = calls.encodeInto(plain, other);
        assert.ok(coded.equals(other.subarray(0, otherBytes)), name);
        assert.ok(coded.equals(await zlibSegmentCodec.encode(plain)), name);
      }
    }
  });

  test('are stored where zlib finds nothing, and coded where it does', () => {
    const engine = openZlibSegmentEngine();
    const shareOf = (plain: Buffer): number => {
      const target = Buffer.alloc(storedSegmentBytes(plain.byteLength));
      return engine.encodeInto(plain, target) / plain.byteLength;
    };
    assert.equal(shareOf(noise(200_000)), storedSegmentBytes(200_000) / 200_000);
    assert.ok(shareOf(text) < 0.4);
    assert.ok(shareOf(halfNoise(150_000)) < 0.9);
    // Its bytes are equally often there, too.
    assert.ok(shareOf(Buffer.concat(Array.from({ length: 60 }, () => noise(4096)))) < 0.1);
  });

  test('are decoded into memory of the caller only if they fill it', () => {
    const engine = openZlibSegmentEngine();
    const coded = Buffer.alloc(300_000);
    const codedBytes = engine.encodeInto(text, coded);
    const segment = coded.subarray(0, codedBytes);
    const target = Buffer.alloc(text.byteLength);
    engine.decodeInto(segment, target);
    assert.ok(target.equals(text));
    assert.throws(
      () => engine.decodeInto(segment.subarray(0, 50), target),
      /segment of 50 coded .* bytes came out/,
    );
    assert.throws(
      () => engine.decodeInto(noise(100), target),
      /no deflate of that length|bytes came out/,
    );
    engine.decodeInto(segment, target);
    assert.ok(target.equals(text), 'a failure leaves nothing behind');
  });
});

describe('a state of zlib', () => {
  test('finds the same matches at the end of an input as a new one', () => {
    const options = { level: 2, memLevel: 9, windowBits: 15 };
    const state = ZlibState.over(createDeflateRaw(options));
    assert.ok(state !== undefined, 'this Node has other internals');
    const output = Buffer.alloc(1000);
    for (let i = 0; i < 300; i++) {
      // Of eight letters: many matches of three bytes, of which a few are the last.
      const letters = hash('shake128', String(i), { outputLength: 400, outputEncoding: 'buffer' });
      const before = Buffer.from(letters.map((byte) => byte & 7));
      const plain = Buffer.from(before.subarray(0, 100 + (i % 150))).reverse();
      state.deflate(before, output, options.windowBits);
      const done: ZlibProgress = state.deflate(plain, output, options.windowBits);
      const coded = deflateRawSync(plain, { ...options, finishFlush: constants.Z_SYNC_FLUSH });
      assert.equal(output.toString('hex', 0, done.writtenBytes), coded.toString('hex'), String(i));
    }
  });

  test('tells what it does not take, and goes on', () => {
    const state = ZlibState.over(createInflateRaw());
    assert.ok(state !== undefined, 'this Node has other internals');
    const output = Buffer.alloc(1000);
    assert.throws(() => state.run(Buffer.alloc(10, 0xff), output, 'finish'), /invalid/);
    const coded = deflateRawSync(Buffer.from('some text'));
    const { usedBytes, writtenBytes } = state.run(coded, output, 'finish');
    assert.equal(usedBytes, coded.byteLength);
    assert.equal(output.toString('utf8', 0, writtenBytes), inflateRawSync(coded).toString());
  });

  test('is not taken from streams that Node makes otherwise', () => {
    const stream = createInflateRaw();
    Object.defineProperty(stream, '_writeState', { value: undefined });
    assert.equal(ZlibState.over(stream), undefined);
  });
});
