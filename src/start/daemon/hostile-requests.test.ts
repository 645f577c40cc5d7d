import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { after, describe, test } from 'node:test';
import {
  bytesOf,
  descriptionOf,
  ingest,
  segmentOf,
} from '../../../test/contracts/ingest-session.ts';
import { startTestDaemon } from '../../../test/fakes/test-daemon.ts';
import { uploadClient, type WireImport } from '../../../test/fakes/upload-client.ts';
import { digestBytes, KIB } from '../../base/index.ts';
import { encodeIndices, encodeSegments, SEGMENTS_MEDIA_TYPE } from '../../serve/index.ts';
import { HttpIngestTarget } from '../client/http-ingest-target.ts';
import { HttpRestoreFeed } from '../client/http-restore-feed.ts';

const daemon = await startTestDaemon();
after(() => daemon[Symbol.asyncDispose]());
const API = '/api/ingot/v1';
const { hostname, port } = new URL(daemon.url);
const basic = Buffer.from(`${daemon.env['INGOT_CLIENT']}:${daemon.env['INGOT_SECRET']}`);
const answer = await fetch(`${daemon.url}${API}/token`, {
  method: 'POST',
  headers: { authorization: `Basic ${basic.toString('base64')}` },
});
const { access_token: token } = (await answer.json()) as { access_token: string };
const chunk = segmentOf(bytesOf(1, 50_000));
/** As much as one answer may have. */
const LARGE_CHUNKS = 15;

async function begin(): Promise<string> {
  const begun = await fetch(`${daemon.url}${API}/ingests`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ name: 'hostile' }),
  });
  return ((await begun.json()) as { id: string }).id;
}

/** Sends raw bytes and reads until the daemon closes, or until it answered a request whole. */
function send(head: readonly string[], body: Uint8Array, isCut = false): Promise<string> {
  return new Promise((resolve, reject) => {
    let received = '';
    const socket = connect(Number(port), hostname, () => {
      const lines = [...head, 'Host: x', `Authorization: Bearer ${token}`, 'Connection: close'];
      socket.write(`${lines.join('\r\n')}\r\n\r\n`);
      socket.write(body);
      if (isCut) socket.end();
    });
    socket.on('data', (bytes) => {
      received += bytes.toString();
    });
    socket.on('close', () => resolve(received));
    socket.on('error', (error: NodeJS.ErrnoException) => {
      // A daemon that refuses a body does not read the rest of it.
      if (error.code === 'ECONNRESET' || error.code === 'EPIPE') resolve(received);
      else reject(error);
    });
  });
}

/** A request of which the half is sent. */
function sendHalf(head: readonly string[], body: Uint8Array) {
  const begun = Promise.withResolvers<void>();
  const answer = Promise.withResolvers<string>();
  const half = body.byteLength >> 1;
  const socket = connect(Number(port), hostname, () => {
    const lines = [...head, 'Host: x', `Authorization: Bearer ${token}`, 'Connection: close'];
    socket.write(`${lines.join('\r\n')}\r\n\r\n`);
    socket.write(body.subarray(0, half), () => begun.resolve());
  });
  socket.once('data', (bytes) => answer.resolve(bytes.toString()));
  socket.once('close', () => answer.resolve('nothing'));
  return {
    begun: begun.promise,
    finish: async () => {
      socket.write(body.subarray(half));
      return await answer.promise;
    },
    leave: () => void socket.destroy(),
  };
}

const segments = (id: string, lengthBytes: number | string): string[] => [
  `POST ${API}/ingests/${id}/segments HTTP/1.1`,
  `Content-Type: ${SEGMENTS_MEDIA_TYPE}`,
  `Content-Length: ${lengthBytes}`,
];

async function storedImages(): Promise<number> {
  return (await daemon.test.account.list()).length;
}

/** Asks again and again for 4 MiB over one connection, and reads nothing. */
async function stopReading(id: string): Promise<Disposable> {
  const indices = encodeIndices(Array.from({ length: LARGE_CHUNKS }, (_, i) => i));
  const head = [
    `POST ${API}/images/${id}/chunks/0 HTTP/1.1`,
    'Host: x',
    `Authorization: Bearer ${token}`,
    'Content-Type: application/octet-stream',
    `Content-Length: ${indices.byteLength}`,
  ];
  const request = Buffer.concat([Buffer.from(`${head.join('\r\n')}\r\n\r\n`), indices]);
  const socket = connect(Number(port), hostname);
  socket.on('error', () => undefined);
  socket.pause();
  await once(socket, 'connect');
  // The system's own buffers take the first of them.
  for (let n = 0; n < 8; n++) socket.write(request);
  return { [Symbol.dispose]: () => void socket.destroy() };
}

async function answersInMemory(): Promise<number> {
  const metrics = await (await fetch(`${daemon.url}/metrics`)).text();
  return Number(/^ingot_answers_in_memory (\d+)$/m.exec(metrics)?.[1]);
}

describe('a hostile caller', () => {
  test('who sends less than it promised changes nothing', async () => {
    const id = await begin();
    const body = Buffer.concat(encodeSegments([chunk]));
    await send(segments(id, body.byteLength + 1000), body, true);
    const have = await fetch(`${daemon.url}${API}/ingests/${id}/have`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/octet-stream' },
      body: new Uint8Array(digestBytes(chunk.digest)),
    });
    assert.equal(have.status, 200);
    assert.equal(new Uint8Array(await have.arrayBuffer())[0], 0);
  });

  test('who sends more than a body may have is refused, whatever length it names', async () => {
    const id = await begin();
    const big = Buffer.alloc(18 * 1024 * 1024);
    const named = await send(segments(id, big.byteLength), big);
    assert.ok(named === '' || / 413 /.test(named), named.slice(0, 100));
    const chunked = [
      `POST ${API}/ingests/${id}/segments HTTP/1.1`,
      `Content-Type: ${SEGMENTS_MEDIA_TYPE}`,
      'Transfer-Encoding: chunked',
    ];
    const framed = Buffer.concat([
      Buffer.from(`${big.byteLength.toString(16)}\r\n`),
      big,
      Buffer.from('\r\n0\r\n\r\n'),
    ]);
    const unnamed = await send(chunked, framed);
    assert.ok(unnamed === '' || / 413 /.test(unnamed), unnamed.slice(0, 100));
  });

  test('who sends nonsense gets a failure in its form, and the daemon goes on', async () => {
    const id = await begin();
    const cases: [string[], Uint8Array, RegExp][] = [
      [segments(id, 8), Buffer.from('nonsense'), /400 .*request-invalid/s],
      [segments('ing-zzzzz', 8), Buffer.from('nonsense'), /404 .*ingest-not-found/s],
      [segments('../../x', 8), Buffer.from('nonsense'), / 404 /],
      [segments(id, -5), Buffer.from('x'), / 400 /],
      [
        [
          `POST ${API}/ingests/${id}/segments HTTP/1.1`,
          'Content-Type: text/x',
          'Content-Length: 1',
        ],
        Buffer.from('x'),
        / 415 .*request-invalid/s,
      ],
      [
        [
          `POST ${API}/ingests/${id}/have HTTP/1.1`,
          'Content-Type: application/octet-stream',
          'Content-Length: 33',
        ],
        Buffer.alloc(33),
        /400 .*request-invalid/s,
      ],
      [[`GET ${API}/images?limit=99999 HTTP/1.1`], Buffer.alloc(0), /400 .*request-invalid/s],
      [[`GET /${'x'.repeat(40_000)} HTTP/1.1`], Buffer.alloc(0), / 431 /],
    ];
    for (const [head, body, expected] of cases) {
      assert.match(await send(head, body), expected, head[0]?.slice(0, 80));
    }
    await ingest(new HttpIngestTarget(daemon.own), 'after all that', [chunk]);
  });

  test('who sends slowly keeps nobody waiting, and neither do six of them', {
    timeout: 60_000,
  }, async () => {
    const body = Buffer.concat(encodeSegments([chunk]));
    await using slow = new AsyncDisposableStack();
    const rest: (() => Promise<string>)[] = [];
    for (let n = 0; n < 6; n++) {
      const sender = sendHalf(segments(await begin(), body.byteLength), body);
      slow.defer(() => sender.leave());
      await sender.begun;
      rest.push(() => sender.finish());
    }
    const client = await uploadClient(daemon.env);
    const sent = await client.send('PUT', '/images?name=meanwhile', {
      body: bytesOf(3, 9_000_000),
    });
    const { image } = (await sent.json()) as WireImport;
    await ingest(new HttpIngestTarget(daemon.own), 'meanwhile too', [
      segmentOf(bytesOf(4, 50_000)),
    ]);
    assert.equal((await client.settled(image.id)).status, 'available');
    for (const finish of rest) assert.match(await finish(), /^HTTP\/1.1 204/);
  });

  test('who reads nothing of what it asked for keeps no restore waiting', {
    timeout: 60_000,
  }, async () => {
    const chunks = Array.from({ length: LARGE_CHUNKS }, (_, n) => segmentOf(bytesOf(n, 256 * KIB)));
    const { id } = await ingest(new HttpIngestTarget(daemon.own), 'large', chunks);
    using stopped = new DisposableStack();
    for (let n = 0; n < 20; n++) stopped.use(await stopReading(id));
    await using feed = await HttpRestoreFeed.open(daemon.own, id);
    const entries = await feed.page(0);
    for (let n = 0; n < 20; n++) {
      const wanted = entries.filter((entry) => entry.kind === 'chunk');
      const coded = await feed.readCoded(wanted);
      assert.ok(chunks.every((one, i) => Buffer.from(coded[i] ?? []).equals(one.coded)));
      feed.giveBack(coded);
    }
    const held = await answersInMemory();
    assert.ok(held >= 8 && held <= 32, `${held} answers wait for their readers`);
    stopped.dispose();
    const deadline = performance.now() + 10_000;
    while ((await answersInMemory()) > 0) {
      assert.ok(performance.now() < deadline, 'what nobody reads any more is still there');
    }
  });

  test('who cuts a manifest makes no image and ends its session', async () => {
    const before = await storedImages();
    const id = await begin();
    const head = [
      `POST ${API}/ingests/${id}/commit HTTP/1.1`,
      'Content-Type: application/vnd.ingot.manifest',
      'Content-Length: 5000',
    ];
    await send(head, Buffer.from('ingman\0\x01', 'latin1'), true);
    const deadline = performance.now() + 60_000;
    for (;;) {
      const have = await send(
        [
          `POST ${API}/ingests/${id}/have HTTP/1.1`,
          'Content-Type: application/octet-stream',
          'Content-Length: 32',
        ],
        Buffer.alloc(32),
      );
      if (/ingest-(not-found|expired)/.test(have)) break;
      assert.ok(performance.now() < deadline, 'the session is still there');
    }
    assert.equal(await storedImages(), before);
  });

  test('of another account can neither use nor end an ingest', async () => {
    const session = await new HttpIngestTarget(daemon.own).begin(descriptionOf('mine'));
    await session.put([chunk]);
    const foreign = await new HttpIngestTarget(daemon.foreign).begin(descriptionOf('theirs'));
    assert.deepEqual(await foreign.have([chunk.digest]), [false]);
    await session.abort();
    await foreign.abort();
  });
});
