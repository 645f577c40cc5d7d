import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { startMemoryDaemon } from '../../../test/fakes/memory-daemon.ts';
import { MIB } from '../../base/index.ts';

const API = '/api/ingot/v1';
const daemon = await startMemoryDaemon();
const { backend, url: base } = daemon;
const plain = Buffer.from(Array.from({ length: 200_000 }, (_, i) => (i * i) & 255));
let token = '';

const call = (path: string, init: RequestInit = {}): Promise<Response> =>
  fetch(`${base}${path}`, {
    ...init,
    headers: { authorization: `Bearer ${token}`, ...(init.headers as Record<string, string>) },
  });

async function codeOf(answer: Response): Promise<string> {
  const body = (await answer.json()) as { error: { code: string } };
  return body.error.code;
}

before(async () => {
  const answer = await fetch(`${base}${API}/token`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ client_id: backend.caller.clientId, client_secret: backend.secret }),
  });
  assert.equal(answer.status, 200);
  token = ((await answer.json()) as { access_token: string }).access_token;
});

after(() => daemon[Symbol.asyncDispose]());

describe('access', () => {
  test('a client gets a token by HTTP Basic too', async () => {
    const basic = Buffer.from(`${backend.caller.clientId}:${backend.secret}`).toString('base64');
    const answer = await fetch(`${base}${API}/token`, {
      method: 'POST',
      headers: { authorization: `Basic ${basic}` },
    });
    assert.equal(answer.status, 200);
  });

  test('a request without a token, with a foreign one or a damaged one is refused alike', async () => {
    const damaged = `${token.slice(0, -6)}AAAAAA`;
    const unsigned = `${Buffer.from('{"alg":"none"}').toString('base64url')}.${token.split('.')[1]}.`;
    for (const header of [
      '',
      'Bearer x',
      `Bearer ${damaged}`,
      `Bearer ${unsigned}`,
      'Basic Og==',
    ]) {
      const answer = await fetch(`${base}${API}/images`, { headers: { authorization: header } });
      assert.equal(answer.status, 401, header);
      assert.equal(await codeOf(answer), 'not-authorized');
    }
  });

  test('guessing secrets is slowed down, for the guessed client alone', async () => {
    const guess = (secret: string): Promise<Response> =>
      fetch(`${base}${API}/token`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ client_id: 'cli-zzzzz', client_secret: secret }),
      });
    const statuses: number[] = [];
    for (let i = 0; i < 12; i++) statuses.push((await guess(`guess ${i}`)).status);
    assert.deepEqual(statuses.slice(0, 10), Array(10).fill(401));
    assert.deepEqual(statuses.slice(10), [429, 429]);
    assert.notEqual((await guess('again')).headers.get('retry-after'), null);
    const basic = Buffer.from(`${backend.caller.clientId}:${backend.secret}`).toString('base64');
    const other = await fetch(`${base}${API}/token`, {
      method: 'POST',
      headers: { authorization: `Basic ${basic}` },
    });
    assert.equal(other.status, 200, 'another client from the same address is let in');
  });
});

describe('images', () => {
  test('a list comes in pages that join without a gap', async () => {
    for (let i = 0; i < 5; i++) backend.add(Buffer.alloc(10, i), { name: `page ${i}` });
    const seen: string[] = [];
    let next: string | null = null;
    do {
      const after = next === null ? '' : `&after=${next}`;
      const answer = await call(`${API}/images?limit=2${after}`);
      const page = (await answer.json()) as { images: { id: string }[]; next: string | null };
      assert.ok(page.images.length <= 2);
      seen.push(...page.images.map((image) => image.id));
      next = page.next;
    } while (next !== null);
    assert.deepEqual(seen, [...backend.stored.keys()].toSorted());
  });

  test('an image is shown, changed, protected and destroyed', async () => {
    const { id } = backend.add(plain);
    const send = (method: string, path: string, body?: unknown): Promise<Response> =>
      call(`${API}/images/${id}${path}`, {
        method,
        headers: { 'content-type': 'application/json' },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
    const changed = await send('PATCH', '', { name: 'another', public: true });
    assert.equal(changed.status, 200);
    const image = (await changed.json()) as { name: string; public: boolean; created_at: string };
    assert.equal(image.name, 'another');
    assert.equal(image.public, true);
    assert.equal(image.created_at, '2010-12-19T12:57:37Z');
    assert.equal((await send('POST', '/lock')).status, 200);
    assert.equal(await codeOf(await send('DELETE', '')), 'image-in-use');
    assert.equal((await send('POST', '/unlock')).status, 200);
    assert.equal((await send('DELETE', '')).status, 200);
    assert.equal((await call(`${API}/images/${id}`)).status, 404);
  });

  test('what is no image id, no JSON or no known field is refused in the form of a failure', async () => {
    const { id } = backend.add(plain);
    const patch = (body: string): Promise<Response> =>
      call(`${API}/images/${id}`, {
        method: 'PATCH',
        headers: { 'content-type': 'application/json' },
        body,
      });
    for (const answer of [
      await call(`${API}/images/img-..%2fx`),
      await call(`${API}/images/IMG-AAAAA`),
      await call(`${API}/images?limit=0`),
      await patch('{'),
      await patch('{"owner":"acc-zzzzz"}'),
      await patch('{"name":"two\\nlines"}'),
      await patch(`{"name":"${'x'.repeat(300)}"}`),
    ]) {
      assert.equal(answer.status, 400);
      assert.equal(await codeOf(answer), 'request-invalid');
    }
    assert.equal(await codeOf(await patch(`"${'x'.repeat(2 ** 21)}"`)), 'request-too-large');
  });

  test('a path that leads nowhere answers 404 in the form of a failure', async () => {
    const answer = await call(`${API}/nothing`);
    assert.equal(answer.status, 404);
    assert.equal(await codeOf(answer), 'request-invalid');
  });
});

describe('downloads', () => {
  const image = backend.add(plain);
  const raw = `${API}/images/${image.id}/raw`;

  test('the whole file has its length, its validator and its digest', async () => {
    const answer = await call(raw);
    assert.equal(answer.status, 200);
    assert.equal(answer.headers.get('content-length'), String(plain.byteLength));
    assert.equal(answer.headers.get('accept-ranges'), 'bytes');
    assert.match(answer.headers.get('etag') ?? '', /^"[0-9a-f]{32}"$/);
    const digest = `sha-256=:${Buffer.from(image.plainDigest ?? '', 'hex').toString('base64')}:`;
    assert.equal(answer.headers.get('repr-digest'), digest);
    assert.ok(Buffer.from(await answer.arrayBuffer()).equals(plain));
  });

  test('the gzip form unpacks to the raw form', async () => {
    const answer = await call(`${API}/images/${image.id}/gzip`);
    assert.ok(gunzipSync(Buffer.from(await answer.arrayBuffer())).equals(plain));
  });

  test('HEAD tells the length and sends nothing', async () => {
    const answer = await call(raw, { method: 'HEAD' });
    assert.equal(answer.status, 200);
    assert.equal(answer.headers.get('content-length'), String(plain.byteLength));
    assert.equal((await answer.arrayBuffer()).byteLength, 0);
  });

  test('any single range gives exactly the bytes that it names', async () => {
    const size = plain.byteLength;
    const ranges = fc.oneof(
      fc.tuple(fc.nat(size - 1), fc.nat(2 * size)).map(([start, length]) => ({
        header: `bytes=${start}-${start + length}`,
        start,
        end: Math.min(start + length + 1, size),
      })),
      fc.nat(size - 1).map((start) => ({ header: `bytes=${start}-`, start, end: size })),
      fc.integer({ min: 1, max: 2 * size }).map((length) => ({
        header: `bytes=-${length}`,
        start: Math.max(0, size - length),
        end: size,
      })),
    );
    await fc.assert(
      fc.asyncProperty(ranges, async ({ header, start, end }) => {
        const answer = await call(raw, { headers: { range: header } });
        assert.equal(answer.status, 206);
        assert.equal(answer.headers.get('content-range'), `bytes ${start}-${end - 1}/${size}`);
        const bytes = Buffer.from(await answer.arrayBuffer());
        assert.ok(bytes.equals(plain.subarray(start, end)));
      }),
      { numRuns: 60 },
    );
  });

  test('a range beyond the end is refused with the size', async () => {
    for (const range of [`bytes=${plain.byteLength}-`, 'bytes=-0', 'bytes=99999999999-']) {
      const answer = await call(raw, { headers: { range } });
      assert.equal(answer.status, 416, range);
      assert.equal(answer.headers.get('content-range'), `bytes */${plain.byteLength}`);
      assert.equal(await codeOf(answer), 'range-not-satisfiable');
    }
  });

  test('several ranges, other units and nonsense get the whole file', async () => {
    for (const range of ['bytes=0-1,5-6', 'lines=1-2', 'bytes=5-2', 'bytes=-', 'bytes=x-y']) {
      const answer = await call(raw, { headers: { range } });
      assert.equal(answer.status, 200, range);
      assert.equal((await answer.arrayBuffer()).byteLength, plain.byteLength);
    }
  });

  test('a part is sent only while the file is the one that the client began with', async () => {
    const etag = (await call(raw, { method: 'HEAD' })).headers.get('etag') ?? '';
    const part = (ifRange: string): Promise<Response> =>
      call(raw, { headers: { range: 'bytes=5-9', 'if-range': ifRange } });
    assert.equal((await part(etag)).status, 206);
    assert.equal((await part('"another"')).status, 200);
    assert.equal((await part(`W/${etag}`)).status, 200);
    assert.equal((await part('Sun, 19 Dec 2010 12:57:37 GMT')).status, 200);
    assert.equal((await call(raw, { headers: { 'if-none-match': etag } })).status, 304);
    assert.equal((await call(raw, { headers: { 'if-match': '"another"' } })).status, 412);
  });
});

describe('downloads that nobody reads', () => {
  const large = backend.add(Buffer.alloc(40 * MIB));

  test('are so many, and others are told when to come back', { timeout: 60_000 }, async () => {
    const raw = `${API}/images/${large.id}/raw`;
    const { port } = new URL(base);
    const stopped = Array.from({ length: 16 }, () => {
      const socket = connect(Number(port), '127.0.0.1').pause();
      const head = `GET ${raw} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\n\r\n`;
      return socket.on('error', () => undefined).once('connect', () => socket.write(head));
    });
    const part = async (): Promise<number> => {
      const answer = await call(raw, { headers: { range: 'bytes=0-9' } });
      await answer.arrayBuffer();
      return answer.status;
    };
    const deadline = performance.now() + 30_000;
    while ((await part()) !== 429) assert.ok(performance.now() < deadline, 'all are let in');
    const refused = await call(raw);
    assert.equal(refused.headers.get('retry-after'), '10');
    assert.equal(await codeOf(refused), 'too-many-requests');
    assert.equal((await call(raw, { method: 'HEAD' })).status, 200);
    for (const socket of stopped) socket.destroy();
    while ((await part()) === 429) {
      assert.ok(performance.now() < deadline, 'the memory did not come back');
    }
  });
});

describe('the port', () => {
  test('health and metrics need no token', async () => {
    const health = await fetch(`${base}/healthz`);
    assert.deepEqual(await health.json(), { status: 'ok' });
    const metrics = await (await fetch(`${base}/metrics`)).text();
    assert.match(metrics, /ingot_image_sent_bytes_total \d+/);
    assert.doesNotMatch(metrics, /img-/, 'no series for each image');
  });

  test('the OpenAPI page covers the native API and nothing else', async () => {
    const answer = await fetch(`${base}${API}/openapi.json`);
    const page = (await answer.json()) as { openapi: string; paths: Record<string, unknown> };
    assert.equal(page.openapi, '3.1.0');
    assert.ok(Object.keys(page.paths).every((path) => path.startsWith(API)));
    assert.ok(`${API}/ingests/{id}/segments` in page.paths);
  });

  test('a request that is no HTTP is answered with 400 and a closed connection', async () => {
    const { port } = new URL(base);
    const text = await new Promise<string>((resolve, reject) => {
      const socket = connect(Number(port), '127.0.0.1', () => socket.write('nonsense\r\n\r\n'));
      let received = '';
      socket.on('data', (bytes) => {
        received += bytes.toString();
      });
      socket.on('close', () => resolve(received));
      socket.on('error', reject);
    });
    assert.match(text, /^HTTP\/1\.1 400/);
  });
});
