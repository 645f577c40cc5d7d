import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { isFailure } from '../../base/index.ts';
import { ByteQueue } from './byte-queue.ts';
import { takeWirePayload, unpackPayload } from './wire-payload.ts';

const CODERS = {
  none: (plain: Uint8Array) => Buffer.from(plain),
  gzip: (plain: Uint8Array) => gzipSync(plain, { level: 1 }),
  zstd: (plain: Uint8Array) => zstdCompressSync(plain),
} as const;
type Codec = keyof typeof CODERS;
const CODECS = ['none', 'gzip', 'zstd'] as const satisfies Codec[];

async function readWirePayload(
  queue: ByteQueue,
  codec: Codec,
  lengthBytes: number,
): Promise<Buffer> {
  return unpackPayload(await takeWirePayload(queue, codec, { lengthBytes }), lengthBytes);
}

/** A stream that comes in pieces of the given lengths, over and over. */
async function* pieces(
  bytes: Buffer,
  lengths: readonly number[],
): AsyncGenerator<Buffer, undefined> {
  for (let at = 0, i = 0; at < bytes.length; i += 1) {
    const length = lengths[i % lengths.length] ?? bytes.length;
    yield bytes.subarray(at, at + length);
    at += length;
  }
  return undefined;
}

const plainBytes = fc.oneof(
  fc.uint8Array({ maxLength: 3000 }),
  fc.integer({ min: 0, max: 300_000 }).map((length) => new Uint8Array(length).fill(7)),
);

test('a payload is taken off the stream exactly, whatever its pieces are', async () => {
  await fc.assert(
    fc.asyncProperty(
      plainBytes,
      fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1, maxLength: 4 }),
      fc.constantFrom(...CODECS),
      async (plain, lengths, codec) => {
        const stream = Buffer.concat([CODERS[codec](plain), Buffer.from('INGOT done 1 -\n')]);
        const queue = new ByteQueue(pieces(stream, lengths));
        const read = await readWirePayload(queue, codec, plain.length);
        assert.ok(read.equals(plain));
        assert.equal(await queue.line(100), 'INGOT done 1 -');
        assert.equal(await queue.next(), undefined);
      },
    ),
    { numRuns: 60 },
  );
});

test('a payload that is cut, too short, too long or damaged is refused', async () => {
  const plain = Buffer.alloc(5000, 'ingot');
  for (const codec of ['gzip', 'zstd'] as const) {
    const coded = CODERS[codec](plain);
    const isRefused = (thrown: unknown): boolean =>
      isFailure(thrown, 'frame-malformed') || isFailure(thrown, 'source-truncated');
    const read = (stream: Buffer, lengthBytes: number): Promise<Buffer> =>
      readWirePayload(new ByteQueue(pieces(stream, [999])), codec, lengthBytes);
    for (let length = 0; length < coded.length; length += 7) {
      await assert.rejects(read(coded.subarray(0, length), plain.length), isRefused);
    }
    const followed = Buffer.concat([coded, Buffer.alloc(64)]);
    await assert.rejects(read(followed, plain.length - 1), isRefused);
    await assert.rejects(read(followed, plain.length + 1), isRefused);
    await assert.rejects(read(Buffer.alloc(300, 'x'), plain.length), isRefused);
  }
  const damaged = CODERS.gzip(plain);
  damaged.writeUInt32LE(0, damaged.length - 8);
  await assert.rejects(
    readWirePayload(new ByteQueue(pieces(damaged, [10])), 'gzip', plain.length),
    (thrown) => isFailure(thrown, 'frame-malformed'),
  );
});

test('a line without an end is refused before it fills the memory', async () => {
  const queue = new ByteQueue(pieces(Buffer.alloc(10_000, 'x'), [1000]));
  await assert.rejects(queue.line(4096), (thrown) => isFailure(thrown, 'frame-malformed'));
});
