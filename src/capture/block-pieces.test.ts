import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { mergeExtents } from '../bytes/index.ts';
import { blockPieces } from './block-pieces.ts';
import type { ReadPart } from './read-ahead.ts';

const BLOCK_BYTES = 64;
const SIZE_BYTES = 1000;

/** The bytes of extents in parts of some length, as a reader with memory of its own gives them. */
async function* partsOf(
  disk: Buffer,
  extents: readonly { readonly offsetBytes: number; readonly lengthBytes: number }[],
  { partBytes, onRelease }: { readonly partBytes: number; readonly onRelease: () => void },
): AsyncGenerator<ReadPart> {
  for (const { offsetBytes, lengthBytes } of extents) {
    for (let done = 0; done < lengthBytes; done += partBytes) {
      const at = offsetBytes + done;
      const bytes = Buffer.from(disk.subarray(at, at + Math.min(partBytes, lengthBytes - done)));
      const release = (): void => {
        bytes.fill(0xee);
        onRelease();
      };
      yield { offsetBytes: at, bytes, release };
    }
  }
}

test('pieces are whole blocks with all bytes of the parts and zeros between, each released once', async () => {
  const extents = fc.array(
    fc.record({
      offsetBytes: fc.integer({ min: 0, max: SIZE_BYTES - 1 }),
      lengthBytes: fc.integer({ min: 1, max: 400 }),
    }),
    { maxLength: 8 },
  );
  const partBytes = fc.integer({ min: 1, max: 300 });
  await fc.assert(
    fc.asyncProperty(extents, partBytes, async (list, length) => {
      const wanted = mergeExtents(
        list.map(({ offsetBytes, lengthBytes }) => ({
          offsetBytes,
          lengthBytes: Math.min(lengthBytes, SIZE_BYTES - offsetBytes),
        })),
      );
      const disk = Buffer.from(Array.from({ length: SIZE_BYTES }, (_, i) => 1 + (i % 200)));
      const expected = Buffer.alloc(SIZE_BYTES);
      let parts = 0;
      let released = 0;
      for (const { offsetBytes, lengthBytes } of wanted) {
        disk.copy(expected, offsetBytes, offsetBytes, offsetBytes + lengthBytes);
        parts += Math.ceil(lengthBytes / length);
      }
      const image = Buffer.alloc(SIZE_BYTES);
      let at = 0;
      const source = partsOf(disk, wanted, {
        partBytes: length,
        onRelease: () => {
          released += 1;
        },
      });
      const sizes = { blockBytes: BLOCK_BYTES, sizeBytes: SIZE_BYTES };
      for await (const { offsetBytes, bytes, release } of blockPieces(source, sizes)) {
        const end = offsetBytes + bytes.length;
        assert.ok(offsetBytes >= at && offsetBytes % BLOCK_BYTES === 0, `${offsetBytes}`);
        assert.ok(end === SIZE_BYTES || end % BLOCK_BYTES === 0, `ends at ${end}`);
        bytes.copy(image, offsetBytes);
        release();
        at = end;
      }
      assert.ok(image.equals(expected));
      assert.equal(released, parts);
    }),
  );
});
