import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { restoreFeedContract } from '../../../test/contracts/restore-feed.ts';
import { codecWorkers } from '../../../test/fakes/codec-workers.ts';
import { startMemoryDaemon } from '../../../test/fakes/memory-daemon.ts';
import { testCodec } from '../../../test/fakes/memory-feed.ts';
import { MemoryTarget } from '../../../test/fakes/memory-target.ts';
import { isFailure } from '../../base/index.ts';
import { restoreImage } from '../../publish/index.ts';
import { DaemonClient } from './daemon-client.ts';
import { HttpRestoreFeed } from './http-restore-feed.ts';

const daemon = await startMemoryDaemon();
const { backend } = daemon;
const client = new DaemonClient(
  { url: daemon.url, client: backend.caller.clientId, secret: backend.secret, ca: undefined },
  undefined,
);
after(async () => {
  client[Symbol.dispose]();
  await daemon[Symbol.asyncDispose]();
});

restoreFeedContract('a daemon over HTTP', async (disk) =>
  HttpRestoreFeed.open(client, backend.add(disk).id),
);

describe('restoring from a daemon', () => {
  const disk = Buffer.alloc(3_000_000);
  for (let at = 0; at < disk.length; at += 512) disk.writeUInt32LE(at + 1, at);

  test('the image is opened once for a whole restore', async () => {
    const { id } = backend.add(disk);
    const before = backend.opened.length;
    await using feed = await HttpRestoreFeed.open(client, id);
    const target = new MemoryTarget(Buffer.alloc(3_000_320));
    await restoreImage(feed, target, { workers: codecWorkers(testCodec) });
    assert.ok(target.disk.subarray(0, disk.length).equals(disk));
    assert.equal(backend.opened.length - before, 1);
  });

  test('an image that is not there is not found', async () => {
    await assert.rejects(HttpRestoreFeed.open(client, 'img-zzzzz'), (thrown) =>
      isFailure(thrown, 'image-not-found'),
    );
  });

  test('a page, an entry or an amount that cannot be is refused', async () => {
    const { id } = backend.add(disk);
    const post = (page: number, indices: Buffer) =>
      client.call({
        method: 'POST',
        path: `/images/${id}/chunks/${page}`,
        headers: { 'content-type': 'application/octet-stream' },
        body: [indices],
      });
    const invalid = (thrown: unknown): boolean => isFailure(thrown, 'request-invalid');
    await assert.rejects(post(0, Buffer.from([1, 2, 3])), invalid);
    await assert.rejects(post(0, Buffer.from([200, 0, 0, 0])), invalid);
    await assert.rejects(post(99, Buffer.alloc(4)), invalid);
    await assert.rejects(
      client.call({ method: 'GET', path: `/images/${id}/manifest/99` }),
      invalid,
    );
    await assert.rejects(post(0, Buffer.alloc(4 * 100)), (thrown) =>
      isFailure(thrown, 'request-too-large'),
    );
  });
});
