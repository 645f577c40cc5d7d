import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { crc32, inflateRawSync, constants as zlib } from 'node:zlib';
import { digestOf } from '../../src/base/index.ts';
import { zeroSegmentsBytes } from '../../src/bytes/index.ts';
import type { OpenChunk, OpenEntry, OpenImage } from '../../src/keep/index.ts';

const inflate = (coded: Buffer): Buffer =>
  inflateRawSync(coded, { finishFlush: zlib.Z_SYNC_FLUSH });

const chunksOf = (entries: readonly OpenEntry[]): OpenChunk[] =>
  entries.filter((entry) => entry.kind === 'chunk');

/**
 * What every {@link OpenImage} promises.
 *
 * @param work runs with an image of this disk
 */
export function openImageContract(
  name: string,
  withImage: (plain: Buffer, work: (image: OpenImage) => Promise<void>) => Promise<void>,
): void {
  const chunk = (fill: string): Buffer => Buffer.alloc(64 * 1024, `${fill} `);
  const disk = Buffer.concat([
    chunk('first'),
    Buffer.alloc(256 * 1024),
    ...Array.from({ length: 12 }, (_, i) => chunk(`chunk ${i}`)),
    chunk('first'),
    Buffer.alloc(64 * 1024),
  ]);

  describe(`an open image: ${name}`, () => {
    test('has entries that cover the whole disk, and what is said of pages is true', async () => {
      await withImage(disk, async (image) => {
        await using _open = image;
        assert.equal(image.image.virtualSizeBytes, disk.byteLength);
        let at = 0;
        for (const [index, page] of image.pages.entries()) {
          assert.equal(page.plainStartBytes, at);
          const entries = await image.page(index);
          const coded = await image.readCoded(chunksOf(entries));
          let next = 0;
          let codedBytes = 0;
          for (const entry of entries) {
            const plain = disk.subarray(at, at + entry.lengthBytes);
            at += entry.lengthBytes;
            if (entry.kind === 'hole') {
              assert.ok(plain.every((byte) => byte === 0));
              codedBytes += zeroSegmentsBytes(entry.lengthBytes);
              continue;
            }
            const bytes = coded[next++];
            assert.ok(bytes !== undefined);
            codedBytes += entry.codedBytes;
            assert.deepEqual(
              [digestOf(plain), crc32(plain), bytes.byteLength, crc32(bytes)],
              [entry.digest, entry.plainCrc32, entry.codedBytes, entry.codedCrc32],
            );
            assert.ok(inflate(bytes).equals(plain));
          }
          const plain = disk.subarray(page.plainStartBytes, at);
          assert.equal(page.plainBytes, plain.byteLength);
          assert.equal(page.plainCrc32, crc32(plain));
          assert.equal(page.codedBytes, codedBytes);
        }
        assert.equal(at, disk.byteLength);
      });
    });

    test('gives the same coded bytes to calls that run at once, in any order', async () => {
      await withImage(disk, async (image) => {
        await using _open = image;
        const pages = await Promise.all(image.pages.map((_, index) => image.page(index)));
        const chunks = pages.flatMap(chunksOf);
        const memory = Buffer.alloc(100_000);
        const [forth, back, lent] = await Promise.all([
          image.readCoded(chunks),
          image.readCoded(chunks.toReversed()),
          image.readCoded(chunks, undefined, memory),
        ]);
        assert.equal(forth.length, chunks.length);
        for (const [i, bytes] of forth.entries()) {
          assert.ok(bytes.equals(back[chunks.length - 1 - i] ?? Buffer.alloc(0)));
          assert.ok(bytes.equals(lent[i] ?? Buffer.alloc(0)));
        }
      });
    });
  });
}
