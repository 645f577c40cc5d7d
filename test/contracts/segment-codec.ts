import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { constants, crc32, deflateRawSync, gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { IngotError } from '../../src/base/index.ts';
import { MAX_CHUNK_BYTES, MAX_CODED_BYTES, spliceGzip } from '../../src/bytes/index.ts';
import type { SegmentCodec } from '../../src/keep/index.ts';

/** Bytes as disks have them: text, noise, zeros, and mixtures of them. */
const plainBytes: fc.Arbitrary<Buffer> = fc
  .array(
    fc.oneof(
      fc.uint8Array({ minLength: 1, maxLength: 5000 }),
      fc.string({ minLength: 1, maxLength: 300 }).map((text) => Buffer.from(text.repeat(40))),
      fc.integer({ min: 1, max: 60_000 }).map((length) => Buffer.alloc(length)),
      fc.constant(undefined).map(() => randomBytes(30_000)),
    ),
    { minLength: 1, maxLength: 8 },
  )
  .map((parts) => Buffer.concat(parts).subarray(0, MAX_CHUNK_BYTES))
  .filter((plain) => plain.byteLength > 0);

const malformed = (thrown: unknown): boolean =>
  thrown instanceof IngotError && thrown.code === 'segment-malformed';

/** What every engine promises; `others` are engines whose segments it must decode. */
export function segmentCodecContract(
  codec: SegmentCodec,
  { others }: { readonly others: readonly SegmentCodec[] },
): void {
  const refused = async (coded: Uint8Array, length: number, why: string): Promise<void> => {
    await assert.rejects(codec.decode(coded, length), malformed, why);
  };

  describe(`segment codec: ${codec.name}`, () => {
    test('gives back what it coded, and other engines do too', async () => {
      await fc.assert(
        fc.asyncProperty(plainBytes, async (plain) => {
          const coded = await codec.encode(plain);
          assert.ok(coded.byteLength <= MAX_CODED_BYTES);
          for (const engine of [codec, ...others]) {
            const decoded = await engine.decode(coded, plain.byteLength);
            assert.ok(decoded.equals(plain), engine.name);
          }
        }),
        { numRuns: 30 },
      );
    });

    test('sums up as gzip does', () => {
      fc.assert(fc.property(plainBytes, (plain) => codec.crc32(plain) === crc32(plain)));
      assert.equal(codec.crc32(Buffer.alloc(0)), 0);
    });

    test('its segments, spliced in any order with those of others, are one gzip member', async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(plainBytes, { maxLength: 5 }), async (chunks) => {
          const engines = [codec, ...others];
          const segments = await Promise.all(
            chunks.map(async (plain, i) => ({
              coded: await (engines[i % engines.length] ?? codec).encode(plain),
              plainBytes: plain.byteLength,
              plainCrc32: crc32(plain),
            })),
          );
          assert.ok(gunzipSync(spliceGzip(segments)).equals(Buffer.concat(chunks)));
        }),
        { numRuns: 15 },
      );
    });

    test('the largest chunk of noise stays below the limit', async () => {
      const noise = randomBytes(MAX_CHUNK_BYTES);
      const coded = await codec.encode(noise);
      assert.ok(coded.byteLength <= MAX_CODED_BYTES, String(coded.byteLength));
      assert.ok((await codec.decode(coded, noise.byteLength)).equals(noise));
    });

    test('codes many chunks at once', async () => {
      const chunks = Array.from({ length: 40 }, (_, i) => Buffer.alloc(20_000, `chunk ${i} `));
      const coded = await Promise.all(chunks.map((plain) => codec.encode(plain)));
      const decoded = await Promise.all(coded.map((one) => codec.decode(one, 20_000)));
      for (const [i, plain] of chunks.entries()) assert.ok(decoded[i]?.equals(plain), String(i));
    });

    test('codes a chunk that is a view into a small or a larger buffer', async () => {
      const small = new Uint8Array([7, 7, 7, 7, 7, 1, 2]).subarray(2);
      const large = Buffer.alloc(100_000, 'ab').subarray(33_333, 77_777);
      for (const plain of [small, large]) {
        const decoded = await codec.decode(await codec.encode(plain), plain.byteLength);
        assert.ok(decoded.equals(plain));
      }
    });

    test('refuses a length that is not the plain one', async () => {
      const coded = await codec.encode(Buffer.alloc(5000, 'some text '));
      for (const length of [1, 4999, 5001, 5015, 100_000]) {
        await refused(coded, length, String(length));
      }
    });

    test('refuses lengths that no segment has before it takes memory for them', async () => {
      const coded = await codec.encode(Buffer.from('x'));
      for (const length of [0, -1, 1.5, Number.NaN, MAX_CHUNK_BYTES + 1, 2 ** 50]) {
        await refused(coded, length, String(length));
      }
      await refused(Buffer.alloc(0), 1, 'nothing');
      await refused(Buffer.alloc(MAX_CODED_BYTES + 1), 1, 'too much');
    });

    test('refuses every segment that was cut short', async () => {
      // Stored, fixed and dynamic blocks end in different ways.
      const plains = [
        Buffer.from('short text'),
        randomBytes(200),
        Buffer.from(JSON.stringify(constants)),
      ];
      for (const plain of plains) {
        const coded = await codec.encode(plain);
        for (let length = 1; length < coded.byteLength; length++) {
          const half = coded.subarray(0, length);
          // Without its empty last block a segment may still end on a byte, after all its bytes:
          // that is a shorter form of the same segment.
          const decoded = await codec.decode(half, plain.byteLength).catch((thrown: unknown) => {
            assert.ok(malformed(thrown), String(thrown));
          });
          if (decoded === undefined) continue;
          assert.ok(decoded.equals(plain));
          const segment = { coded: half, plainBytes: plain.byteLength, plainCrc32: crc32(plain) };
          const twice = gunzipSync(spliceGzip([segment, segment]));
          assert.ok(twice.equals(Buffer.concat([plain, plain])));
        }
      }
    });

    test('takes what was cut within a byte only if anything may follow it', async () => {
      const plains = [Buffer.from('short text'), randomBytes(40), Buffer.alloc(500, 'abc')];
      for (const plain of plains) {
        for (const engine of [codec, ...others]) {
          const coded = await engine.encode(plain);
          for (let bits = coded.byteLength * 8 - 1; bits > 0; bits--) {
            const cut = Buffer.from(coded.subarray(0, Math.ceil(bits / 8)));
            const last = cut.byteLength - 1;
            cut[last] = (cut[last] ?? 0) & (0xff >> ((8 - (bits % 8)) % 8));
            const decoded = await codec.decode(cut, plain.byteLength).catch((thrown: unknown) => {
              assert.ok(malformed(thrown), String(thrown));
            });
            if (decoded === undefined) continue;
            // The last byte of a stored block may have lost bits: a right segment of other bytes.
            const plainCrc32 = crc32(decoded);
            const segment = { coded: cut, plainBytes: decoded.byteLength, plainCrc32 };
            const whole = gunzipSync(spliceGzip([segment, segment]));
            assert.ok(whole.equals(Buffer.concat([decoded, decoded])), `${bits} bits`);
          }
        }
      }
    });

    test('refuses bytes behind the segment', async () => {
      const plain = Buffer.from('some text');
      const coded = await codec.encode(plain);
      for (const tail of [[0], [1], [0xff], [3, 0], [0, 0, 0]]) {
        await refused(Buffer.concat([coded, Buffer.from(tail)]), plain.byteLength, tail.join());
      }
    });

    test('refuses a final block', async () => {
      for (const level of [0, 1, 6]) {
        const plain = Buffer.alloc(3000, 'some text ');
        await refused(deflateRawSync(plain, { level }), plain.byteLength, `level ${level}`);
      }
    });

    test('refuses a segment that would swallow the start of the next one', async () => {
      const plain = Buffer.from('abc');
      for (const announced of [4, 5, 20, 60, 200]) {
        for (const final of [0, 1]) {
          const header = Buffer.from([final, announced, 0, announced ^ 0xff, 0xff]);
          await refused(
            Buffer.concat([header, plain]),
            plain.byteLength,
            `stored ${announced} ${final}`,
          );
        }
      }
      // A fixed block without its end, and one whose end lies in the last byte's upper bits.
      await refused(Buffer.from([0x4a]), 1, 'open block');
      await refused(Buffer.from([0x4a, 0x04, 0x00]), 1, 'not on a byte');
    });

    test('refuses a final block that takes whatever a decoder puts behind it as its own', async () => {
      const plain = randomBytes(100);
      for (let more = 1; more <= 120; more++) {
        const header = Buffer.from([1, 100 + more, 0, (100 + more) ^ 0xff, 0xff]);
        const coded = Buffer.concat([header, plain]);
        // What is put behind it yields some bytes itself, which would be missed.
        for (let length = 100 + Math.max(0, more - 16); length <= 100 + more; length++) {
          await refused(coded, length, `${more} more, ${length} bytes`);
        }
      }
    });

    test('refuses a match that reaches before the segment', async () => {
      const before = Buffer.alloc(4000, 'something that comes back ');
      const coded = deflateRawSync(before, {
        dictionary: before,
        finishFlush: constants.Z_SYNC_FLUSH,
      });
      await refused(coded, before.byteLength, 'match into a dictionary');
    });

    test('noise is refused, never a crash', async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.uint8Array({ minLength: 1, maxLength: 400 }),
          fc.integer({ min: 1, max: 4000 }),
          async (noise, length) => {
            await codec.decode(noise, length).then(
              (plain) => assert.equal(plain.byteLength, length),
              (thrown: unknown) => assert.ok(malformed(thrown), String(thrown)),
            );
          },
        ),
        { numRuns: 300 },
      );
    });

    test('a bit that flipped is refused or changes what comes out', async () => {
      const plain = Buffer.from(JSON.stringify(constants));
      const coded = await codec.encode(plain);
      for (let i = 0; i < 200; i++) {
        const flipped = Buffer.from(coded);
        const bit = Math.floor((i / 200) * coded.byteLength * 8);
        flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        await codec.decode(flipped, plain.byteLength).catch((thrown: unknown) => {
          assert.ok(malformed(thrown), String(thrown));
        });
      }
    });
  });
}
