import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chunkWorkersContract } from '../../../test/contracts/chunk-workers.ts';
import { codecWorkers } from '../../../test/fakes/codec-workers.ts';
import { openFastestCodec } from './fastest-segment-codec.ts';
import { ISAL_NAME } from './isal-segment-codec.ts';
import { openChunkWorkers } from './thread-chunk-workers.ts';
import { WASM_NAME } from './wasm-segment-engine.ts';
import { zlibSegmentCodec } from './zlib-segment-codec.ts';

const { codec } = await openFastestCodec();

chunkWorkersContract('threads with zlib', openChunkWorkers(zlibSegmentCodec.name));
chunkWorkersContract('threads with our own coder', openChunkWorkers(WASM_NAME));
chunkWorkersContract('one thread with a codec', codecWorkers(zlibSegmentCodec));
if (codec.name !== ISAL_NAME) {
  test('chunk workers: threads with isal', (t) => t.skip('libisal2 is not installed'));
} else {
  chunkWorkersContract('threads with isal', openChunkWorkers(ISAL_NAME));
}

test('workers that have ended refuse work instead of starting again', async () => {
  const workers = openChunkWorkers(zlibSegmentCodec.name);
  using lent = await workers.lend(100);
  await workers.digests(lent.bytes, [{ startBytes: 0, lengthBytes: 100 }]);
  await workers[Symbol.asyncDispose]();
  await assert.rejects(
    workers.digests(lent.bytes, [{ startBytes: 0, lengthBytes: 100 }]),
    /have ended/,
  );
});
