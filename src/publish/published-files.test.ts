import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { type DiskPiece, PiecesOpenImage } from '../../test/fakes/pieces-open-image.ts';
import { isFailure, KIB, MIB } from '../base/index.ts';
import { storedSegment, zeroSegmentsBytes } from '../bytes/index.ts';
import { zlibSegmentCodec } from '../keep/adapters/zlib-segment-codec.ts';
import type { PublishedFile } from './published-file.ts';
import { publishRaw } from './raw.ts';
import { publishRawGz } from './raw-gz.ts';

const codec = zlibSegmentCodec;

/** Codes noise without trying to compress it. */
const storing = { ...codec, encode: async (plain: Uint8Array) => storedSegment(plain) };

const pieces: fc.Arbitrary<DiskPiece[]> = fc.array(
  fc.oneof(
    fc.integer({ min: 1, max: 300_000 }),
    fc.integer({ min: 1, max: 3000 }).map((length) => randomBytes(length)),
    fc.integer({ min: 1, max: 200 }).map((n) => Buffer.from('some text '.repeat(n))),
  ),
  { minLength: 1, maxLength: 20 },
);

async function bytesOf(file: PublishedFile, startByte: number, endByte: number): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of file.read(startByte, endByte)) {
    assert.ok(part.byteLength > 0);
    parts.push(Buffer.from(part));
  }
  return Buffer.concat(parts);
}

const forms = [
  { name: 'raw', publish: (image: PiecesOpenImage) => publishRaw(image, codec) },
  { name: 'gz', publish: publishRawGz },
] as const;

describe('an image as raw', () => {
  test('is its disk, with a length before the first byte', async () => {
    await fc.assert(
      fc.asyncProperty(pieces, fc.integer({ min: 1, max: 5 }), async (disk, pageEntries) => {
        const image = await PiecesOpenImage.of(disk, { codec, pageEntries });
        const file = publishRaw(image, codec);
        assert.equal(file.sizeBytes, image.plain.byteLength);
        assert.ok((await bytesOf(file, 0, file.sizeBytes)).equals(image.plain));
      }),
      { numRuns: 30 },
    );
  });

  test('a segment whose plain bytes are wrong is not given out', async () => {
    const image = await PiecesOpenImage.of([Buffer.from('one'), Buffer.from('two')], {
      codec,
      pageEntries: 9,
    });
    const other = await codec.encode(Buffer.from('owt'));
    const lying = { ...codec, decode: () => codec.decode(other, 3) };
    await assert.rejects(bytesOf(publishRaw(image, lying), 0, 6), (thrown) =>
      isFailure(thrown, 'chunk-corrupt'),
    );
  });
});

describe('an image as gz', () => {
  test('is one gzip member of its disk, with a length before the first byte', async () => {
    await fc.assert(
      fc.asyncProperty(pieces, fc.integer({ min: 1, max: 5 }), async (disk, pageEntries) => {
        const image = await PiecesOpenImage.of(disk, { codec, pageEntries });
        const file = publishRawGz(image);
        const bytes = await bytesOf(file, 0, file.sizeBytes);
        assert.equal(bytes.byteLength, file.sizeBytes);
        assert.ok(gunzipSync(bytes).equals(image.plain));
      }),
      { numRuns: 30 },
    );
  });

  test('segments that lie side by side go out in one buffer, without a copy', async () => {
    const disk = Array.from({ length: 60 }, () => randomBytes(40 * KIB));
    const image = await PiecesOpenImage.of(disk, { codec, pageEntries: 2048 });
    const file = publishRawGz(image);
    const parts: Uint8Array[] = [];
    for await (const part of file.read(0, file.sizeBytes)) parts.push(part);
    assert.ok(parts.length <= 5, `${parts.length} buffers`);
    const [, first] = parts;
    assert.equal(first?.buffer, image.store.buffer);
  });

  test('a hole of 20 TiB has a length at once and any of its bytes', async () => {
    const length = 20 * 2 ** 40;
    const image = await PiecesOpenImage.of([Buffer.from('start'), length], {
      codec,
      pageEntries: 2,
    });
    const file = publishRawGz(image);
    assert.equal(file.sizeBytes, 20 + image.store.byteLength + zeroSegmentsBytes(length));
    const near = await bytesOf(file, file.sizeBytes - 100_000, file.sizeBytes);
    assert.equal(near.byteLength, 100_000);
  });
});

for (const { name, publish } of forms) {
  describe(`any form of an image: ${name}`, () => {
    test('gives any range as that part of the whole', async () => {
      const disk = [
        randomBytes(70_000),
        Buffer.from('text '.repeat(3000)),
        33_000_000,
        Buffer.from('x'),
        4096,
        randomBytes(200_000),
        1,
      ];
      const image = await PiecesOpenImage.of(disk, { codec, pageEntries: 2 });
      const file = publish(image);
      const whole = await bytesOf(file, 0, file.sizeBytes);
      const offset = fc.oneof(
        fc.integer({ min: 0, max: file.sizeBytes }),
        fc.integer({ min: 0, max: 200 }),
        fc.integer({ min: 0, max: 200 }).map((back) => file.sizeBytes - back),
      );
      await fc.assert(
        fc.asyncProperty(offset, offset, async (one, other) => {
          const [start, end] = [Math.min(one, other), Math.max(one, other)];
          assert.ok((await bytesOf(file, start, end)).equals(whole.subarray(start, end)));
        }),
        { numRuns: 25 },
      );
    });

    test('an image of no bytes has nothing to give but what its form adds', async () => {
      const image = await PiecesOpenImage.of([], { codec, pageEntries: 2 });
      const file = publish(image);
      const bytes = await bytesOf(file, 0, file.sizeBytes);
      assert.equal(bytes.byteLength, name === 'gz' ? 20 : 0);
    });

    test('gives the bytes before a corrupt chunk and then fails', async () => {
      const disk = Array.from({ length: 100 }, () => randomBytes(256 * KIB));
      const image = await PiecesOpenImage.of(disk, { codec: storing, pageEntries: 9 });
      const file = publish(image);
      const whole = await bytesOf(file, 0, file.sizeBytes);
      const last = image.store.byteLength - 1;
      image.store[last] = (image.store[last] ?? 0) ^ 1;
      let given = 0;
      await assert.rejects(
        async () => {
          for await (const part of file.read(0, file.sizeBytes)) {
            assert.ok(whole.subarray(given, given + part.byteLength).equals(part));
            given += part.byteLength;
          }
        },
        (thrown) => isFailure(thrown, 'chunk-corrupt'),
      );
      assert.ok(given > 15 * MIB, String(given));
    });

    test('stops when it is cancelled or left, and leaves no read under way', async () => {
      const disk = Array.from({ length: 100 }, () => randomBytes(256 * KIB));
      const image = await PiecesOpenImage.of(disk, { codec: storing, pageEntries: 9 });
      const file = publish(image);
      const reason = new Error('the reader went away');
      const controller = new AbortController();
      await assert.rejects(
        async () => {
          for await (const part of file.read(0, file.sizeBytes, controller.signal)) {
            if (part.byteLength > 100) controller.abort(reason);
          }
        },
        (thrown) => thrown === reason,
      );
      assert.equal(image.readsUnderWay, 0);
      for await (const part of file.read(0, file.sizeBytes)) if (part.byteLength > 100) break;
      assert.equal(image.readsUnderWay, 0);
    });

    test('closes the image when it is closed', async () => {
      const image = await PiecesOpenImage.of([5], { codec, pageEntries: 9 });
      await publish(image)[Symbol.asyncDispose]();
      assert.equal(image.isDisposed, true);
    });

    test('a range that is not in the file is a bug', async () => {
      const image = await PiecesOpenImage.of([5], { codec, pageEntries: 9 });
      const file = publish(image);
      for (const [start, end] of [
        [-1, 2],
        [3, 2],
        [0, file.sizeBytes + 1],
      ] as const) {
        await assert.rejects(bytesOf(file, start, end), RangeError);
      }
    });
  });
}
