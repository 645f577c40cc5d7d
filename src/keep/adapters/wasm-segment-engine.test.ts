import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import { constants, inflateRawSync } from 'node:zlib';
import fc from 'fast-check';
import { MAX_CHUNK_BYTES, storedSegmentBytes } from '../../bytes/index.ts';
import { openWasmSegmentEngine } from './wasm-segment-engine.ts';
import { openZlibSegmentEngine } from './zlib-segment-engine.ts';

const engine = openWasmSegmentEngine();

/** Longer than any overrun that a store of eight bytes could make. */
const GUARD_BYTES = 64;

/** @returns the segment; what lies behind its room must not have changed */
function segmentOf(plain: Buffer, coder = engine): Buffer {
  const roomBytes = storedSegmentBytes(plain.byteLength);
  const memory = Buffer.alloc(roomBytes + GUARD_BYTES, 0xa5);
  const codedBytes = coder.encodeInto(plain, memory.subarray(0, roomBytes));
  assert.ok(codedBytes <= roomBytes, `${codedBytes} bytes in room for ${roomBytes}`);
  assert.ok(memory.subarray(roomBytes).equals(Buffer.alloc(GUARD_BYTES, 0xa5)), 'it overran');
  return Buffer.from(memory.subarray(0, codedBytes));
}

/** Codes a chunk, and inflates it by Node's own call. */
function mustComeBack(plain: Buffer, what: string): Buffer {
  const coded = segmentOf(plain);
  const inflated = inflateRawSync(coded, { finishFlush: constants.Z_SYNC_FLUSH });
  assert.ok(inflated.equals(plain), what);
  // It ends between two blocks, too.
  assert.ok(engine.decode(coded, plain.byteLength).equals(plain), what);
  return coded;
}

/** Bytes of so many values, the same in each run. */
function noise(sizeBytes: number, { values, seed = '' }: { values: number; seed?: string }) {
  const bytes = createHash('shake128', { outputLength: sizeBytes }).update(seed).digest();
  return bytes.map((byte) => byte % values) as Buffer;
}

/** What a dynamic block begins with, read bit by bit. */
function codeLengthsOf(coded: Buffer): {
  readonly literals: number[];
  readonly distances: number[];
} {
  let at = 0;
  const take = (count: number): number => {
    let value = 0;
    for (let i = 0; i < count; i++, at++) {
      value |= (((coded[at >> 3] ?? 0) >> (at & 7)) & 1) << i;
    }
    return value;
  };
  assert.equal(take(3), 0b100, 'a block that is not the last, with codes of its own');
  const literalCount = take(5) + 257;
  const distanceCount = take(5) + 1;
  const headerCount = take(4) + 4;
  const order = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
  const header = new Array<number>(19).fill(0);
  for (const symbol of order.slice(0, headerCount)) header[symbol] = take(3);
  const codes = codesOf(header);
  const lengths: number[] = [];
  while (lengths.length < literalCount + distanceCount) {
    let word = '';
    while (!codes.has(word)) word += take(1);
    const symbol = codes.get(word) ?? 0;
    if (symbol < 16) lengths.push(symbol);
    else if (symbol === 16) lengths.push(...new Array(take(2) + 3).fill(lengths.at(-1)));
    else lengths.push(...new Array(symbol === 17 ? take(3) + 3 : take(7) + 11).fill(0));
  }
  return { literals: lengths.slice(0, literalCount), distances: lengths.slice(literalCount) };
}

/** Canonical codes as words of 0 and 1 (RFC 1951 section 3.2.2). */
function codesOf(lengths: readonly number[]): Map<string, number> {
  const codes = new Map<string, number>();
  let code = 0;
  for (let length = 1; length <= 15; length++) {
    for (const [symbol, own] of lengths.entries()) {
      if (own === length) codes.set((code++).toString(2).padStart(length, '0'), symbol);
    }
    code <<= 1;
  }
  return codes;
}

/** Chunks that repeat themselves, near and far, with noise of few or many values between. */
const chunks: fc.Arbitrary<Buffer> = fc
  .array(
    fc.record({
      length: fc.integer({ min: 1, max: 20_000 }),
      values: fc.constantFrom(1, 2, 3, 16, 64, 256),
      period: fc.integer({ min: 1, max: 40_000 }),
      seed: fc.constantFrom('a', 'b', 'c'),
    }),
    { minLength: 1, maxLength: 20 },
  )
  .map((parts) => {
    const pieces = parts.map(({ length, values, period, seed }) => {
      const unit = noise(Math.min(period, length), { values, seed });
      return Buffer.alloc(length, unit);
    });
    return Buffer.concat(pieces).subarray(0, MAX_CHUNK_BYTES);
  });

describe('segments by our own coder', () => {
  test('are inflated to what they were made of, by Node’s zlib', () => {
    fc.assert(
      fc.property(chunks, (plain) => {
        mustComeBack(plain, 'another chunk came out');
      }),
      { numRuns: 200 },
    );
  });

  test('are the same for the same chunk, whatever was coded before', () => {
    fc.assert(
      fc.property(fc.array(chunks, { minLength: 1, maxLength: 4 }), chunks, (before, plain) => {
        for (const chunk of before) segmentOf(chunk);
        const fresh = segmentOf(plain, openWasmSegmentEngine());
        assert.ok(segmentOf(plain).equals(fresh));
      }),
      { numRuns: 40 },
    );
  });

  test('are the same on every machine and in every version of the name', () => {
    const lines = Array.from({ length: 6000 }, (_, i) => `line ${i} of ${i * i}\n`).join('');
    const plain = Buffer.concat([
      Buffer.from(lines),
      noise(50_000, { values: 20 }),
      Buffer.alloc(5000),
    ]);
    const digest = createHash('sha256').update(segmentOf(plain)).digest('hex');
    const known = 'b28d82d85383873e5ae8c187103b0dfea9b476900238182b8040762ba1f70299';
    assert.equal(digest, known, 'a coder that codes otherwise has another number in its name');
  });

  test('of each short length come back', () => {
    for (let length = 1; length <= 600; length++) {
      mustComeBack(Buffer.alloc(length), `${length} zeros`);
      mustComeBack(Buffer.alloc(length, 'abc'), `${length} bytes of abc`);
      mustComeBack(Buffer.alloc(length, 'abcd'), `${length} bytes of abcd`);
      mustComeBack(noise(length, { values: 7 }), `${length} bytes of seven values`);
    }
  });

  test('come back with a repetition of any length at any distance', () => {
    const distances = [
      ...Array.from({ length: 300 }, (_, i) => i + 1),
      ...Array.from({ length: 60 }, (_, i) => 301 + i * 547),
      ...Array.from({ length: 20 }, (_, i) => 32_755 + i),
    ];
    const all = noise(34_000, { values: 64 });
    for (const [i, distance] of distances.entries()) {
      const unit = all.subarray(0, distance);
      for (const length of [3 + (i % 300), 255 + (i % 7), 3000]) {
        const plain = Buffer.concat([unit, Buffer.alloc(length, unit), Buffer.from('end')]);
        mustComeBack(plain, `${length} bytes at ${distance}`);
      }
    }
  });

  test('find what was 32768 bytes before, and nothing that was farther', () => {
    const bytesWith = (distance: number): number => {
      const unit = noise(distance, { values: 64, seed: 'far' });
      return segmentOf(Buffer.concat([unit, unit.subarray(0, 500)])).byteLength;
    };
    const oneBefore = bytesWith(32_767);
    // A literal costs a byte at most; 500 of them would cost 375.
    assert.ok(bytesWith(32_768) <= oneBefore + 4);
    assert.ok(bytesWith(32_769) > oneBefore + 300);
  });

  test('find matches across the borders of blocks', () => {
    const unit = noise(30_000, { values: 64, seed: 'border' });
    const plain = Buffer.alloc(MAX_CHUNK_BYTES, unit);
    assert.ok(mustComeBack(plain, 'a period of 30000').byteLength < 35_000);
    for (let sizeBytes = 98_300; sizeBytes < 98_310; sizeBytes++) {
      // The step from one block to two.
      mustComeBack(Buffer.alloc(sizeBytes, unit.subarray(0, 21)), `${sizeBytes} bytes`);
    }
  });

  test('have complete codes of at most 14 bits where the tree would be deeper', () => {
    // Each of the first is as rare as all that are rarer together: a tree would have a chain of 12.
    const rare = Array.from({ length: 12 }, (_, i) => Buffer.alloc(2 ** Math.max(0, i - 1), i));
    const often = Array.from({ length: 60 }, (_, i) => Buffer.alloc(1024, i + 100));
    const letters = Buffer.concat([...rare, ...often]);
    const keys = createHash('shake128', { outputLength: letters.byteLength * 4 }).digest();
    const plain = Buffer.from(
      Array.from(letters, (byte, i) => ({ byte, key: keys.readUInt32LE(i * 4) }))
        .toSorted((a, b) => a.key - b.key)
        .map(({ byte }) => byte),
    );
    const { literals } = codeLengthsOf(mustComeBack(plain, 'a deep tree'));
    assert.equal(Math.max(...literals), 14);
    const taken = literals.reduce((sum, bits) => sum + (bits === 0 ? 0 : 2 ** -bits), 0);
    assert.equal(taken, 1);
  });

  test('have one distance code where there is one distance, and one where there is none', () => {
    const one = codeLengthsOf(mustComeBack(Buffer.alloc(1000), 'zeros'));
    assert.deepEqual(one.distances, [1]);
    const none = Buffer.from(Array.from({ length: 250 }, (_, i) => [i, 7]).flat());
    assert.deepEqual(codeLengthsOf(mustComeBack(none, 'pairs')).distances, [0]);
  });

  test('are stored where they hardly shrink, and never longer than that', () => {
    for (const sizeBytes of [1, 4, 65_535, 65_536, 200_000, MAX_CHUNK_BYTES]) {
      const coded = mustComeBack(noise(sizeBytes, { values: 256 }), `${sizeBytes} of noise`);
      assert.equal(coded.byteLength, storedSegmentBytes(sizeBytes));
    }
    // 7.9 bits a byte: two percent are not worth the time of inflating it.
    const nearly = noise(100_000, { values: 226 });
    assert.equal(segmentOf(nearly).byteLength, storedSegmentBytes(100_000));
    const zeros = mustComeBack(Buffer.alloc(MAX_CHUNK_BYTES), 'zeros');
    assert.ok(zeros.byteLength < MAX_CHUNK_BYTES / 500);
  });

  test('come from shared memory into shared memory', () => {
    const plain = noise(50_000, { values: 5 });
    const shared = Buffer.from(new SharedArrayBuffer(200_000));
    plain.copy(shared, 7);
    const target = shared.subarray(100_003, 100_003 + storedSegmentBytes(50_000));
    const codedBytes = engine.encodeInto(shared.subarray(7, 50_007), target);
    assert.ok(target.subarray(0, codedBytes).equals(segmentOf(plain)));
  });

  test('have no more bytes than Node’s zlib gives text', () => {
    const lines = Array.from({ length: 9000 }, (_, i) => `line ${i} of ${i * i}\n`);
    const text = Buffer.from(lines.join('')).subarray(0, 150_000);
    const other = segmentOf(text, openZlibSegmentEngine()).byteLength;
    assert.ok(segmentOf(text).byteLength < 1.05 * other);
  });

  test('refuse a chunk that is too long before anything is written', () => {
    const plain = Buffer.alloc(MAX_CHUNK_BYTES + 1);
    assert.throws(() => segmentOf(plain), RangeError);
  });
});
