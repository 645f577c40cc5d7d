import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, describe, test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { type Digest, digestFromBytes, digestOf } from '../../src/base/index.ts';
import {
  MAX_CHUNK_BYTES,
  MAX_CODED_BYTES,
  type Segment,
  spliceGzip,
} from '../../src/bytes/index.ts';
import type { ChunkWorkers } from '../../src/keep/index.ts';

/** Lengths of chunks that lie one behind the other, and what fills them. */
const chunks = fc.array(
  fc.record({
    lengthBytes: fc.oneof(
      fc.integer({ min: 1, max: 9000 }),
      fc.constantFrom(4096, 65_536, MAX_CHUNK_BYTES),
    ),
    isNoise: fc.boolean(),
  }),
  { maxLength: 12 },
);

/** What every implementation of {@link ChunkWorkers} promises. */
export function chunkWorkersContract(name: string, workers: ChunkWorkers): void {
  const fill = async (
    wanted: readonly { readonly lengthBytes: number; readonly isNoise: boolean }[],
  ) => {
    const sizeBytes = wanted.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
    const lent = await workers.lend(Math.max(1, sizeBytes));
    let at = 0;
    const spans = wanted.map(({ lengthBytes, isNoise }) => {
      const plain = isNoise ? randomBytes(lengthBytes) : Buffer.alloc(lengthBytes, `text ${at} `);
      plain.copy(lent.bytes, at);
      at += lengthBytes;
      return { startBytes: at - lengthBytes, lengthBytes, digest: digestOf(plain) };
    });
    return { lent, spans };
  };
  const encoded = async (plain: Buffer): Promise<Segment> => {
    using lent = await workers.lend(plain.byteLength);
    plain.copy(lent.bytes);
    const span = { startBytes: 0, lengthBytes: plain.byteLength, digest: digestOf(plain) };
    using coded = await workers.encode(lent.bytes, [span], { isCompared: false });
    const segment = coded.segments[0];
    assert.ok(segment !== undefined);
    return { ...segment, coded: Buffer.from(segment.coded) };
  };

  describe(`chunk workers: ${name}`, () => {
    after(() => workers[Symbol.asyncDispose]());

    test('names spans by their SHA-256, in their order', async () => {
      await fc.assert(
        fc.asyncProperty(chunks, async (wanted) => {
          const { lent, spans } = await fill(wanted);
          using _ = lent;
          const digests = await workers.digests(lent.bytes, spans);
          assert.deepEqual(
            spans.map((_span, i) => digestFromBytes(digests.subarray(i * 32, i * 32 + 32))),
            spans.map(({ digest }) => digest),
          );
        }),
        { numRuns: 15 },
      );
    });

    test('codes spans as segments that splice into one gzip member, and finds them sound', async () => {
      await fc.assert(
        fc.asyncProperty(chunks, async (wanted) => {
          const { lent, spans } = await fill(wanted);
          using _ = lent;
          using coded = await workers.encode(lent.bytes, spans, { isCompared: true });
          const plain = lent.bytes.subarray(
            0,
            wanted.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0),
          );
          assert.ok(gunzipSync(spliceGzip(coded.segments)).equals(plain));
          assert.ok(coded.segments.every((one) => one.coded.byteLength <= MAX_CODED_BYTES));
          const problems = await workers.check(coded.segments);
          assert.deepEqual(
            problems,
            spans.map(() => undefined),
          );
          const copies = coded.segments.map((one) => ({ ...one, coded: Buffer.from(one.coded) }));
          assert.ok((await workers.check(copies)).every((problem) => problem === undefined));
        }),
        { numRuns: 15 },
      );
    });

    test('says of each segment what is wrong with it', async () => {
      const good = await encoded(Buffer.alloc(70_000, 'some text '));
      const noise = await encoded(randomBytes(5000));
      const flipped = Buffer.from(good.coded);
      flipped[40] = (flipped[40] ?? 0) ^ 4;
      const half = await encoded(Buffer.alloc(3000, 'x'));
      const other = 'ab'.repeat(32) as Digest;
      const problems = await workers.check([
        good,
        { ...good, coded: flipped },
        { ...good, plainCrc32: good.plainCrc32 ^ 1 },
        noise,
        { ...good, digest: other },
        { ...half, plainBytes: 2999 },
        { ...good, coded: Buffer.alloc(0) },
      ]);
      assert.equal(problems[0], undefined);
      assert.match(problems[1] ?? '', /coded CRC-32/);
      assert.match(problems[2] ?? '', /plain CRC-32/);
      assert.equal(problems[3], undefined);
      assert.match(problems[4] ?? '', /another digest/);
      assert.ok(problems[5] !== undefined);
      assert.ok(problems[6] !== undefined);
    });

    test('decodes segments to their places, and leaves what lies beside them alone', async () => {
      await fc.assert(
        fc.asyncProperty(chunks, fc.boolean(), async (wanted, isCopied) => {
          const { lent, spans } = await fill(wanted);
          using _ = lent;
          using coded = await workers.encode(lent.bytes, spans, { isCompared: true });
          using room = await workers.lend(lent.bytes.byteLength + 20 * spans.length + 20);
          room.bytes.fill(0xa5);
          const placed = coded.segments.map((segment, i) => ({
            digest: segment.digest,
            coded: isCopied ? Buffer.from(segment.coded) : segment.coded,
            startBytes: (spans[i]?.startBytes ?? 0) + 20 * (i + 1),
            lengthBytes: segment.plainBytes,
          }));
          assert.deepEqual(
            await workers.decode(room.bytes, placed),
            spans.map(() => undefined),
          );
          const expected = Buffer.alloc(room.bytes.byteLength, 0xa5);
          for (const [i, { startBytes, lengthBytes }] of spans.entries()) {
            const plain = lent.bytes.subarray(startBytes, startBytes + lengthBytes);
            plain.copy(expected, startBytes + 20 * (i + 1));
          }
          assert.ok(room.bytes.equals(expected));
        }),
        { numRuns: 15 },
      );
    });

    test('says of each segment that it decodes what is wrong with it', async () => {
      const good = await encoded(Buffer.alloc(70_000, 'some text '));
      const placed = (coded: Uint8Array, lengthBytes: number, digest = good.digest) => ({
        digest,
        coded: Buffer.from(coded),
        startBytes: 100,
        lengthBytes,
      });
      using room = await workers.lend(80_000);
      const flipped = Buffer.from(good.coded);
      flipped[40] = (flipped[40] ?? 0) ^ 4;
      const problems = await workers.decode(room.bytes, [
        placed(good.coded, 70_000),
        placed(good.coded, 69_999),
        placed(good.coded, 70_001),
        placed(good.coded.subarray(0, good.coded.length - 20), 70_000),
        placed(randomBytes(5000), 70_000),
        placed(flipped, 70_000),
        placed(good.coded, 70_000, 'ab'.repeat(32) as Digest),
        placed(good.coded, 70_000),
      ]);
      assert.equal(problems[0], undefined);
      for (const problem of problems.slice(1, 6)) assert.match(problem ?? '', /inflate|digest/);
      assert.match(problems[6] ?? '', /another digest/);
      assert.equal(problems[7], undefined);
      assert.equal(digestOf(room.bytes.subarray(100, 70_100)), good.digest);
    });

    test('serves many calls at once', async () => {
      const plains = Array.from({ length: 30 }, (_, i) => Buffer.alloc(50_000 + i, `chunk ${i} `));
      const segments = await Promise.all(plains.map((plain) => encoded(plain)));
      assert.deepEqual(
        await Promise.all(segments.map(async (one) => (await workers.check([one]))[0])),
        segments.map(() => undefined),
      );
    });

    test('lends more than it has, for one after the other', async () => {
      let lentAtOnce = 0;
      await Promise.all(
        Array.from({ length: 25 }, async () => {
          using lent = await workers.lend(4 * 1024 * 1024);
          lentAtOnce += 1;
          lent.bytes.fill(lentAtOnce, 0, 100);
          await new Promise((resolve) => {
            setImmediate(resolve);
          });
        }),
      );
      assert.equal(lentAtOnce, 25);
      using large = await workers.lend(30 * 1024 * 1024);
      assert.equal(large.bytes.byteLength, 30 * 1024 * 1024);
    });
  });
}
