import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { describe, test } from 'node:test';
import { isFailure, MIB } from '../../base/index.ts';
import { DirectConnection } from './direct-connection.ts';

/** A server that gives each request to `reply`, in turn, and a connection to it. */
async function talking(reply: (socket: Socket, turn: number) => void, timeoutMs = 10_000) {
  const asked: string[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('data', (bytes) => {
      asked.push(String(bytes));
      reply(socket, asked.length);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/a/b?c=d`);
  const connection = new DirectConnection({ url, ca: undefined, timeoutMs });
  const allocated: Buffer[] = [];
  return {
    asked,
    allocated,
    connection,
    post: async (
      signal?: AbortSignal,
      allocate = (lengthBytes: number) => Buffer.from(new SharedArrayBuffer(lengthBytes)),
    ) =>
      connection.post({
        url,
        headers: { 'x-own': 'yes' },
        body: Buffer.from('ask'),
        signal,
        allocate: (lengthBytes) => {
          const memory = allocate(lengthBytes);
          allocated.push(memory);
          return memory;
        },
      }),
    [Symbol.dispose]: () => {
      connection[Symbol.dispose]();
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

describe('a connection that receives answers where they are wanted', () => {
  test('makes one call after the other, whose bodies fill the memory that was given', async () => {
    const bodies = [
      randomBytes(3 * MIB + 77),
      Buffer.from('short'),
      Buffer.alloc(0),
      randomBytes(70_000),
    ];
    using server = await talking((socket, turn) => {
      const body = bodies[turn - 1] ?? Buffer.alloc(0);
      socket.write('HTTP/1.1 200 OK\r\nContent-Le');
      setImmediate(() => {
        socket.write(`ngth: ${body.length}\r\nX-Turn: ${turn}\r\n\r\n`);
        socket.write(body);
      });
    });
    for (const [i, body] of bodies.entries()) {
      const reply = await server.post();
      assert.equal(reply.head.statusCode, 200);
      assert.equal(reply.head.headers.get('x-turn'), String(i + 1));
      assert.ok(reply.body.equals(body));
      assert.equal(reply.body, server.allocated[i]);
      assert.ok(server.connection.isIdle);
    }
    assert.match(server.asked[0] ?? '', /^POST \/a\/b\?c=d HTTP\/1\.1\r\nHost: 127\.0\.0\.1:/);
    assert.match(server.asked[0] ?? '', /\r\nx-own: yes\r\nContent-Length: 3\r\n\r\nask$/);
  });

  test('takes no other call while one is under way', async () => {
    using server = await talking((socket) => {
      setImmediate(() => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'));
    });
    const first = server.post();
    assert.equal(server.connection.isIdle, false);
    await assert.rejects(server.post(), /not free/);
    assert.equal(String((await first).body), 'ok');
  });

  for (const [name, words] of [
    ['without a length', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
    ['that is none', 'ready\r\n\r\n'],
    ['that is longer than promised', 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nlong'],
    ['whose head does not end', `HTTP/1.1 200 OK\r\nX: ${'x'.repeat(40_000)}`],
  ] as const) {
    test(`refuses an answer ${name}`, async () => {
      using server = await talking((socket) => socket.write(words));
      await assert.rejects(server.post(), (thrown) => isFailure(thrown, 'daemon-protocol'));
      assert.equal(server.connection.isIdle, false);
    });
  }

  test('fails when the connection ends inside a body', async () => {
    using server = await talking((socket) => {
      socket.end('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf');
    });
    await assert.rejects(server.post(), /ended|closed|ECONNRESET/);
    assert.equal(server.connection.isIdle, false);
  });

  test('fails when nothing comes for too long', async () => {
    using server = await talking(() => undefined, 50);
    await assert.rejects(server.post(), /nothing came for 50 ms/);
  });

  test('fails with the reason of its signal', async () => {
    const abort = new AbortController();
    using server = await talking(() => abort.abort(new Error('enough')));
    await assert.rejects(server.post(abort.signal), /enough/);
    assert.equal(server.connection.isIdle, false);
  });

  test('fails with what the memory fails with', async () => {
    using server = await talking((socket) => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n');
    });
    const refused = server.post(undefined, () => {
      throw new Error('too much');
    });
    await assert.rejects(refused, /too much/);
  });

  test('is not used again once the other side has closed it', async () => {
    using server = await talking((socket) => {
      socket.end('HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok');
    });
    assert.equal(String((await server.post()).body), 'ok');
    assert.equal(server.connection.isIdle, false);
  });
});
