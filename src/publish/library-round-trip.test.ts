import assert from 'node:assert/strict';
import { createCipheriv, createHash } from 'node:crypto';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { openTestLibrary } from '../../test/contracts/test-library.ts';
import { MemorySnapshotSource } from '../../test/fakes/memory-snapshot-source.ts';
import { KIB, MIB, noProgress, systemClock } from '../base/index.ts';
import { openFastestCodec } from '../keep/adapters/fastest-segment-codec.ts';
import { openChunkWorkers } from '../keep/adapters/thread-chunk-workers.ts';
import { ingestSnapshot } from '../keep/index.ts';
import type { PublishedFile } from './published-file.ts';
import { publishRaw } from './raw.ts';
import { publishRawGz } from './raw-gz.ts';

function noise(name: string, lengthBytes: number): Buffer {
  const key = createHash('md5').update(name).digest();
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(lengthBytes));
}

async function bytesOf(file: PublishedFile): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of file.read(0, file.sizeBytes)) parts.push(Buffer.from(part));
  return Buffer.concat(parts);
}

test('a changing disk goes into a real library and comes back as raw and as .gz', async () => {
  const { codec } = await openFastestCodec();
  await using workers = openChunkWorkers(codec.name);
  await using library = await openTestLibrary({ codec });
  const bytes = Buffer.concat([
    noise('a program', 900 * KIB),
    Buffer.alloc(3 * MIB),
    Buffer.alloc(2 * MIB, 'some text that compresses well '),
    noise('more', 5 * MIB + 512),
  ]);
  const files = [
    { at: 0, length: 900 * KIB, inFile: 0 },
    ...Array.from({ length: 300 }, (_, i) => ({
      at: 6 * MIB + i * 8 * KIB,
      length: 8 * KIB,
      inFile: 0,
    })),
  ];
  const disk = {
    bytes,
    extents: [{ offsetBytes: 0, lengthBytes: bytes.byteLength }],
    fileExtents: {
      diskOffsets: Float64Array.from(files, ({ at }) => at),
      lengths: Float64Array.from(files, ({ length }) => length),
      fileOffsets: Float64Array.from(files, ({ inFile }) => inFile),
    },
  };
  await using source = new MemorySnapshotSource(disk, { mayChange: true });
  source.onPass = (kind) => {
    if (kind === 'frozen') noise('changed', 300 * KIB).copy(bytes, 7 * MIB);
  };
  const image = await ingestSnapshot({
    source,
    target: library.account,
    workers,
    description: {
      name: 'a disk',
      description: '',
      kind: 'snapshot',
      arch: 'x86_64',
      ancestorId: undefined,
      compatibilityMode: false,
    },
    onProgress: noProgress,
    signal: new AbortController().signal,
    openSpool: async () => {
      throw new Error('nothing here needs a spool');
    },
    clock: systemClock,
  });
  assert.equal(image.virtualSizeBytes, bytes.byteLength);
  await using raw = publishRaw(await library.account.open(image.id), codec);
  assert.ok((await bytesOf(raw)).equals(bytes));
  await using gz = publishRawGz(await library.account.open(image.id));
  assert.equal(gz.sizeBytes, image.gzipSizeBytes);
  assert.ok(gunzipSync(await bytesOf(gz)).equals(bytes));
  const memory = new Set<ArrayBufferLike>();
  for await (const part of gz.read(0, gz.sizeBytes)) {
    if (part.byteLength > 100 * KIB) memory.add(part.buffer);
  }
  assert.ok(gz.sizeBytes > 5 * MIB && memory.size <= 3, `${memory.size} blocks of memory`);
});
