import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { describe, test } from 'node:test';
import { httpListener, LISTENER_LIMITS, type ListenerLimits } from './http-listener.ts';

/** A listener, and raw connections to it. */
class Setup implements AsyncDisposable {
  readonly server: Server;
  readonly #sockets: Socket[] = [];

  private constructor(handler: RequestListener, limits: Partial<ListenerLimits>) {
    this.server = httpListener(undefined, handler, { ...LISTENER_LIMITS, ...limits });
  }

  static async open(handler: RequestListener, limits: Partial<ListenerLimits>): Promise<Setup> {
    const setup = new Setup(handler, limits);
    setup.server.listen(0, '127.0.0.1');
    await once(setup.server, 'listening');
    return setup;
  }

  /** Connects and sends; reads only when told. */
  async connect(bytes = ''): Promise<Socket> {
    const socket = connect((this.server.address() as AddressInfo).port, '127.0.0.1');
    this.#sockets.push(socket);
    socket.on('error', () => undefined);
    socket.pause();
    await once(socket, 'connect');
    if (bytes !== '') socket.write(bytes);
    return socket;
  }

  async ask(path: string): Promise<string> {
    return await textOf(await this.connect(get(path, 'close')));
  }

  async count(): Promise<number> {
    return await new Promise((resolve, reject) => {
      this.server.getConnections((error, count) => (error ? reject(error) : resolve(count)));
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }
}

function get(path: string, connection: 'close' | 'keep-alive'): string {
  return `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: ${connection}\r\n\r\n`;
}

/** All that comes until the connection is closed. */
async function textOf(socket: Socket): Promise<string> {
  let text = '';
  socket.on('data', (bytes) => {
    text += bytes.toString();
  });
  socket.resume();
  if (!socket.closed) await new Promise((resolve) => socket.once('close', resolve));
  return text;
}

const tellPath: RequestListener = (request, response) => response.end(`at ${request.url}`);

describe('the HTTP port', () => {
  test('lets in who asks, however many connect and send nothing', async () => {
    await using setup = await Setup.open(tellPath, { maxConnections: 20 });
    const silent = Array.from({ length: 200 }, () => setup.connect());
    assert.match(await setup.ask('/among'), /at \/among$/);
    await Promise.all(silent);
    assert.match(await setup.ask('/after'), /at \/after$/);
    assert.ok((await setup.count()) <= 20);
  });

  test('closes no connection that has a request under way to let in another', async () => {
    const begun = Promise.withResolvers<ServerResponse>();
    await using setup = await Setup.open(
      (request, response) => {
        if (request.url === '/long') begun.resolve(response);
        else response.end();
      },
      { maxConnections: 5 },
    );
    const long = await setup.connect(get('/long', 'close'));
    const response = await begun.promise;
    for (let n = 0; n < 30; n++) await setup.connect();
    await setup.ask('/other');
    response.end('it goes on');
    assert.match(await textOf(long), /it goes on$/);
  });

  test('ends a head that comes a byte at a time, and a connection that says nothing', async () => {
    await using setup = await Setup.open(tellPath, { headMs: 300 });
    const silent = await setup.connect();
    const slow = await setup.connect('GET /');
    const dripping = setInterval(() => slow.write('x'), 20);
    try {
      await Promise.all([textOf(silent), textOf(slow)]);
    } finally {
      clearInterval(dripping);
    }
    assert.equal(await setup.count(), 0);
  });

  test('ends an answer of which nothing is taken', async () => {
    const closed = Promise.withResolvers<void>();
    await using setup = await Setup.open(
      (_request, response) => {
        response.once('close', () => closed.resolve());
        response.end(Buffer.alloc(32 * 1024 * 1024));
      },
      { stallMs: 200 },
    );
    await setup.connect(get('/', 'keep-alive'));
    await closed.promise;
  });

  test('waits for a handler that is silent, and closes who asks nothing more', async () => {
    const responses: ServerResponse[] = [];
    await using setup = await Setup.open((_request, response) => void responses.push(response), {
      stallMs: 50,
      keepAliveMs: 50,
    });
    const socket = await setup.connect(get('/', 'keep-alive'));
    await once(setup.server, 'timeout');
    responses[0]?.end('late');
    assert.match(await textOf(socket), /late/);
  });

  test('works on the requests of a connection one after the other', async () => {
    const under: [IncomingMessage, ServerResponse][] = [];
    let arrived = Promise.withResolvers<void>();
    await using setup = await Setup.open((request, response) => {
      under.push([request, response]);
      arrived.resolve();
    }, {});
    const paths = ['/1', '/2', '/3'];
    const last = get('/4', 'close');
    const socket = await setup.connect(
      `${paths.map((path) => get(path, 'keep-alive')).join('')}${last}`,
    );
    for (let n = 0; n < 4; n++) {
      await arrived.promise;
      arrived = Promise.withResolvers();
      assert.equal(under.length, 1);
      const [request, response] = under.pop() ?? [];
      response?.end(`at ${request?.url}`);
    }
    const text = await textOf(socket);
    assert.deepEqual(text.match(/at \/\d/g), ['at /1', 'at /2', 'at /3', 'at /4']);
  });

  test('closes a connection with many requests before its first answer', async () => {
    let count = 0;
    await using setup = await Setup.open(() => {
      count += 1;
    }, {});
    const socket = await setup.connect(get('/', 'keep-alive').repeat(100));
    assert.equal(await textOf(socket), '');
    assert.equal(count, 1);
  });
});
