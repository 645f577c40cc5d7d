import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, test } from 'node:test';
import { isFailure, MIB } from '../../base/index.ts';
import { DaemonClient } from './daemon-client.ts';
import { remoteBlocks, remoteBytes, remoteFile } from './image-stream.ts';

/** A daemon that has one file and serves it as `serve` says. */
async function daemonWith(
  bytes: Buffer,
  serve: (request: IncomingMessage, response: ServerResponse, part: Buffer) => void,
) {
  const ranges: (string | undefined)[] = [];
  const server = createServer((request, response) => {
    if (request.url?.endsWith('/token') === true) {
      response.end(JSON.stringify({ access_token: 't', expires_in: 3600 }));
      return;
    }
    const match = /^bytes=(\d*)-(\d*)$/.exec(request.headers.range ?? '');
    ranges.push(request.headers.range);
    const [, first = '', last = ''] = match ?? [];
    const start = first === '' && last !== '' ? bytes.length - Number(last) : Number(first);
    const end = first === '' || last === '' ? bytes.length : Number(last) + 1;
    response.setHeader('etag', '"e1"');
    if (match !== null) {
      response.statusCode = 206;
      response.setHeader('content-range', `bytes ${start}-${end - 1}/${bytes.length}`);
    }
    response.setHeader('content-length', end - start);
    serve(request, response, bytes.subarray(start, end));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const client = new DaemonClient(
    { url, client: 'cli-aaaaa', secret: 's' } as ConstructorParameters<typeof DaemonClient>[0],
    undefined,
  );
  return {
    client,
    ranges,
    [Symbol.dispose]: () => {
      client[Symbol.dispose]();
      server.closeAllConnections();
      server.close();
    },
  };
}

async function gather(source: AsyncIterable<Buffer>): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of source) parts.push(Buffer.from(part));
  return Buffer.concat(parts);
}

const readers = {
  'in buffers of its own': remoteBytes,
  'in blocks that are used again': (
    client: DaemonClient,
    file: Parameters<typeof remoteBytes>[1],
    startByte: number,
  ) => remoteBlocks(client, file, { startByte, endByte: file.sizeBytes }),
};

for (const [name, read] of Object.entries(readers)) {
  describe(`a file of a daemon, ${name}`, () => {
    test('is gone on with where its connection broke', async () => {
      const bytes = randomBytes(3 * MIB + 5);
      let answers = 0;
      using daemon = await daemonWith(bytes, (_request, response, part) => {
        answers += 1;
        if (answers > 1 && answers < 4) {
          response.write(part.subarray(0, MIB), () => response.destroy());
        } else response.end(part);
      });
      const file = await remoteFile(daemon.client, 'img-aaaaa' as never, 'gzip');
      assert.equal(file.sizeBytes, bytes.length);
      assert.ok((await gather(read(daemon.client, file, 3))).equals(bytes.subarray(3)));
      assert.equal(daemon.ranges[1], `bytes=3-${bytes.length - 1}`);
    });

    test('of which the daemon has too many readers now is asked for again', async () => {
      const bytes = randomBytes(1000);
      let answers = 0;
      using daemon = await daemonWith(bytes, (_request, response, part) => {
        answers += 1;
        if (answers === 1 || answers > 3) {
          response.end(part);
          return;
        }
        const facts = { retryAfterSeconds: 0.1 };
        const error = { code: 'too-many-requests', message: 'wait', facts, retry: 'later' };
        response.removeHeader('content-length');
        response.writeHead(429).end(JSON.stringify({ error }));
      });
      const file = await remoteFile(daemon.client, 'img-aaaaa' as never, 'gzip');
      assert.ok((await gather(read(daemon.client, file, 0))).equals(bytes));
    });

    test('that changed meanwhile is a failure', async () => {
      let answers = 0;
      using daemon = await daemonWith(randomBytes(MIB), (_request, response, part) => {
        answers += 1;
        if (answers === 1) {
          response.end(part);
          return;
        }
        response.removeHeader('content-length');
        response.statusCode = 412;
        const error = { code: 'content-changed', message: 'changed', facts: {}, retry: 'never' };
        response.end(JSON.stringify({ error }));
      });
      const file = await remoteFile(daemon.client, 'img-aaaaa' as never, 'gzip');
      await assert.rejects(gather(read(daemon.client, file, 0)), (thrown) =>
        isFailure(thrown, 'content-changed'),
      );
    });
  });
}

test('a range is given and nothing beside it', async () => {
  const bytes = randomBytes(2 * MIB);
  using daemon = await daemonWith(bytes, (_request, response, part) => response.end(part));
  const file = await remoteFile(daemon.client, 'img-aaaaa' as never, 'gzip');
  const range = { startByte: 10, endByte: bytes.length - 10 };
  const part = await gather(remoteBlocks(daemon.client, file, range));
  assert.ok(part.equals(bytes.subarray(10, -10)));
});
