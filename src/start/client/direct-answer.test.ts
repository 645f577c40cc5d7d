import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { describe, test } from 'node:test';
import { MIB } from '../../base/index.ts';
import { DirectAnswer } from './direct-answer.ts';

/** A server that answers every connection with the same; `ask` sends it a GET. */
async function answering(reply: (socket: Socket) => void) {
  const asked: string[] = [];
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', (bytes) => {
      asked.push(String(bytes));
      reply(socket);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/a/b?c=d`);
  return {
    asked,
    ask: (options: { readonly timeoutMs?: number; readonly signal?: AbortSignal } = {}) =>
      DirectAnswer.open({
        url,
        ca: undefined,
        headers: { 'x-own': 'yes' },
        timeoutMs: options.timeoutMs ?? 10_000,
        signal: options.signal,
      }),
    [Symbol.dispose]: () => server.close(),
  };
}

async function bytesOf(body: AsyncIterable<Buffer>): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of body) parts.push(Buffer.from(part));
  return Buffer.concat(parts);
}

describe('an answer that is received directly', () => {
  test('has its head and all of its body, many blocks long', async () => {
    const body = randomBytes(9 * MIB + 77);
    using server = await answering((socket) => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Le');
      socket.write(`ngth: ${body.length}\r\nETag: "x"\r\n\r\n`);
      socket.end(body);
    });
    const { head, answer } = await server.ask();
    using _ = answer;
    assert.equal(head.statusCode, 200);
    assert.equal(head.headers.get('content-length'), String(body.length));
    assert.equal(head.headers.get('etag'), '"x"');
    assert.ok((await bytesOf(answer.body(body.length))).equals(body));
    assert.match(server.asked[0] ?? '', /^GET \/a\/b\?c=d HTTP\/1\.1\r\nHost: 127\.0\.0\.1:/);
    assert.match(server.asked[0] ?? '', /\r\nx-own: yes\r\n.*\r\n\r\n$/s);
  });

  test('ends with its length, though the connection stays open', async () => {
    using server = await answering((socket) => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef');
    });
    const { answer } = await server.ask();
    using _ = answer;
    assert.equal(String(await bytesOf(answer.body(3))), 'abc');
  });

  test('that breaks off is a failure, after the bytes that came', async () => {
    using server = await answering((socket) => {
      socket.end('HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc');
    });
    const { answer } = await server.ask();
    using _ = answer;
    const given: string[] = [];
    await assert.rejects(async () => {
      for await (const part of answer.body(6)) given.push(String(part));
    }, /3 bytes too early/);
    assert.equal(given.join(''), 'abc');
  });

  test('that is silent for too long is a failure', async () => {
    using server = await answering((socket) => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc');
    });
    // On a busy machine the head may need longer than what is to be waited for.
    for (let timeoutMs = 50; ; timeoutMs *= 2) {
      const asked = await server.ask({ timeoutMs }).catch((thrown: unknown) => thrown);
      if (asked instanceof Error && timeoutMs < 20_000) continue;
      assert.ok(!(asked instanceof Error), String(asked));
      using answer = (asked as Awaited<ReturnType<typeof server.ask>>).answer;
      const words = new RegExp(`nothing came for ${timeoutMs} ms`);
      await assert.rejects(bytesOf(answer.body(6)), words);
      return;
    }
  });

  test('ends when it is cancelled', async () => {
    using server = await answering((socket) => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc');
    });
    const cancelled = new AbortController();
    const { answer } = await server.ask({ signal: cancelled.signal });
    using _ = answer;
    const reason = new Error('cancelled');
    await assert.rejects(
      async () => {
        for await (const part of answer.body(6)) if (part.length > 0) cancelled.abort(reason);
      },
      (thrown) => thrown === reason,
    );
  });

  test('without an end of its head is refused', async () => {
    using server = await answering((socket) => {
      socket.write('HTTP/1.1 200 OK\r\n');
      for (let n = 0; n < 2000; n++) socket.write(`x-${n}: ${'y'.repeat(30)}\r\n`);
    });
    await assert.rejects(server.ask(), /head is above/);
  });
});
