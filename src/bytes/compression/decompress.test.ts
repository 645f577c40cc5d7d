import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { compressSync } from '@napi-rs/lzma/xz';
import { inPieces } from '../../../test/support/small-artifact.ts';
import { isFailure } from '../../base/index.ts';
import { type Compression, sniffCompression } from './compression.ts';
import { decompress } from './decompress.ts';

const plain = Buffer.from('some plain bytes, and more of them. '.repeat(3000));

const FORMS: readonly (readonly [Compression, (bytes: Buffer) => Buffer])[] = [
  ['gzip', (bytes) => gzipSync(bytes)],
  ['zstd', (bytes) => zstdCompressSync(bytes)],
  ['xz', (bytes) => compressSync(bytes)],
];

async function all(compression: Compression, bytes: Buffer, pieceBytes = 700): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of decompress(compression, inPieces(bytes, pieceBytes), 'a stream')) {
    pieces.push(Buffer.from(piece));
  }
  return Buffer.concat(pieces);
}

for (const [compression, compress] of FORMS) {
  describe(compression, () => {
    const coded = compress(plain);

    test('is told by its first bytes and unpacked, whatever the pieces are', async () => {
      assert.equal(sniffCompression(coded.subarray(0, 6)), compression);
      for (const pieceBytes of [1, 64, 1_000_000]) {
        assert.ok((await all(compression, coded, pieceBytes)).equals(plain));
      }
    });

    test('goes on over several members, streams or frames, empty ones too', async () => {
      const several = Buffer.concat([coded, compress(Buffer.alloc(0)), coded]);
      assert.ok((await all(compression, several)).equals(Buffer.concat([plain, plain])));
    });

    test('is refused when it is cut, damaged, empty or followed by something else', async () => {
      const damaged = Buffer.from(coded);
      damaged[damaged.length >> 1] = (damaged[damaged.length >> 1] ?? 0) ^ 0x55;
      const bad: Record<string, Buffer> = {
        cut: coded.subarray(0, -3),
        'cut early': coded.subarray(0, 5),
        empty: Buffer.alloc(0),
        'with words behind it': Buffer.concat([coded, Buffer.from('some words')]),
      };
      // zstd frames of Node carry no checksum: what is damaged may unpack to something else.
      if (compression !== 'zstd') bad['damaged'] = damaged;
      for (const [what, bytes] of Object.entries(bad)) {
        await assert.rejects(
          all(compression, bytes),
          (thrown) => isFailure(thrown, 'compression-malformed'),
          what,
        );
      }
    });

    test('gives on the failure of its source, and lets its taker stop', async () => {
      const failing = (async function* () {
        yield coded.subarray(0, 20);
        await Promise.resolve();
        throw new Error('the disk broke');
      })();
      await assert.rejects(async () => {
        for await (const piece of decompress(compression, failing, 'a stream')) void piece;
      }, /the disk broke/);
      for await (const piece of decompress(compression, inPieces(coded), 'a stream')) {
        if (piece.byteLength > 0) break;
      }
    });
  });
}
