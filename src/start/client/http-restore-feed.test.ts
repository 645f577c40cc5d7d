import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
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

  for (const [name, answer] of [
    ['breaks off', 'HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\nhalf'],
    ['is refused before it begins', ''],
    ['says that there is no room now', refusal()],
    ['has no length', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n'],
  ] as const) {
    test(`an answer with chunks that ${name} is asked for again`, async () => {
      const { id } = backend.add(disk);
      await using proxy = await breakingProxy(answer);
      const { clientId } = backend.caller;
      using behind = new DaemonClient(
        { url: proxy.url, client: clientId, secret: backend.secret, ca: undefined },
        undefined,
      );
      await using feed = await HttpRestoreFeed.open(behind, id);
      const target = new MemoryTarget(Buffer.alloc(3_000_320));
      await restoreImage(feed, target, { workers: codecWorkers(testCodec) });
      assert.ok(target.disk.subarray(0, disk.length).equals(disk));
      assert.equal(proxy.broken, 2);
    });
  }

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

/** What a daemon answers that has too many slow readers. */
function refusal(): string {
  const error = { code: 'too-many-requests', message: 'wait', facts: { retryAfterSeconds: 0.1 } };
  const body = JSON.stringify({ error: { ...error, retry: 'later' } });
  return `HTTP/1.1 429 Too Many Requests\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
}

/** Passes everything on to the daemon, but answers the first two requests for chunks by itself. */
async function breakingProxy(answer: string) {
  const port = Number(new URL(daemon.url).port);
  let broken = 0;
  const server = createServer((socket) => {
    const daemonSocket = connect(port, '127.0.0.1');
    for (const one of [socket, daemonSocket]) one.on('error', () => undefined);
    daemonSocket.pipe(socket);
    socket.on('data', (bytes) => {
      if (broken < 2 && bytes.includes('/chunks/')) {
        broken += 1;
        socket.end(answer);
        daemonSocket.destroy();
      } else {
        daemonSocket.write(bytes);
      }
    });
    socket.on('close', () => daemonSocket.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    get broken() {
      return broken;
    },
    [Symbol.asyncDispose]: async () => {
      server.close();
    },
  };
}
