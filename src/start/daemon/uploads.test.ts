import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { readDisk } from '../../../test/contracts/test-library.ts';
import { runCli } from '../../../test/fakes/cli-run.ts';
import { startTestDaemon } from '../../../test/fakes/test-daemon.ts';
import { uploadClient, type WireImport } from '../../../test/fakes/upload-client.ts';
import type { WireImage } from '../../serve/index.ts';

const daemon = await startTestDaemon({ maxImageBytes: 3_000_000, maxUploadBytes: 2_000_000 });
after(() => daemon[Symbol.asyncDispose]());
const client = await uploadClient(daemon.env);
const disk = Buffer.concat([randomBytes(700_000), Buffer.alloc(300_000), randomBytes(24_576)]);

const sha256 = (bytes: Uint8Array, form: 'hex' | 'base64' = 'hex'): string =>
  createHash('sha256').update(bytes).digest(form);
const spooled = (): string[] => readdirSync(join(daemon.test.folder, 'uploads'));

/** A job is over a little before its spool is removed. */
async function nothingSpooled(): Promise<void> {
  for (const deadline = performance.now() + 60_000; performance.now() < deadline; ) {
    if (spooled().length === 0) return;
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.deepEqual(spooled(), []);
}

async function started(answer: Promise<Response>, status = 202): Promise<WireImport> {
  const got = await answer;
  const text = await got.text();
  assert.equal(got.status, status, text);
  return JSON.parse(text) as WireImport;
}

async function codeOf(answer: Promise<Response>): Promise<string> {
  const { error } = (await (await answer).json()) as { error: { code: string } };
  return error.code;
}

async function isThere(image: WireImage): Promise<void> {
  assert.equal(image.status, 'available', image.failure ?? '');
  assert.ok((await readDisk(daemon.test.account, image.id)).equals(disk));
}

const newUpload = async (about: object = {}): Promise<WireImport> =>
  await started(
    client.send('POST', '/images', {
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ name: 'in pieces', ...about }),
    }),
    201,
  );

/** Sends a part and breaks the connection before its end. */
function breakOff(
  path: string,
  headers: Record<string, string>,
  bytes: Buffer,
  { method = 'PATCH', onPlace }: { method?: string; onPlace?: (location: string) => void } = {},
): Promise<void> {
  const { hostname, port, pathname, search } = new URL(`${client.api}${path}`);
  return new Promise((resolve) => {
    const sending = request({
      hostname,
      port,
      path: `${pathname}${search}`,
      method,
      headers: { authorization: `Bearer ${client.token}`, ...headers, 'content-length': 999_999 },
    });
    sending.on('error', () => resolve());
    if (onPlace === undefined) {
      sending.write(bytes, () => setImmediate(() => sending.destroy()));
    } else {
      sending.write(bytes);
      sending.on('information', ({ statusCode, headers: { location } }) => {
        onPlace(`${statusCode} ${location}`);
        setImmediate(() => sending.destroy());
      });
    }
    sending.on('close', () => resolve());
  });
}

describe('an upload in one request', () => {
  test('is an image that is being made, a job, and then the image', async () => {
    const { image, job, upload } = await started(
      client.send('PUT', '/images?name=web&arch=aarch64&description=a+test', { body: disk }),
    );
    assert.deepEqual([image.status, image.name, image.arch], ['creating', 'web', 'aarch64']);
    assert.deepEqual([job?.kind, job?.subject, upload], ['import', image.id, null]);
    const made = await client.settled(image.id);
    await isThere(made);
    assert.deepEqual([made.created_at, made.capture.source], [image.created_at, 'web']);
    await nothingSpooled();
  });

  for (const [form, bytes] of [
    ['gzip', gzipSync(disk)],
    ['zstd', zstdCompressSync(disk)],
  ] as const) {
    test(`is unpacked when it is ${form}, whatever its media type says`, async () => {
      const headers = { 'content-type': 'application/x-www-form-urlencoded' };
      const sent = client.send('POST', '/images?name=packed', { headers, body: bytes });
      await isThere(await client.settled((await started(sent)).image.id));
    });
  }

  test('with the wrong digest is refused, and its image says why', async () => {
    for (const [query, headers] of [
      [`&sha256=${sha256(Buffer.from('other'))}`, {}],
      ['', { 'repr-digest': `sha-256=:${sha256(Buffer.from('other'), 'base64')}:` }],
      ['', { 'content-digest': `sha-256=:${sha256(Buffer.from('other'), 'base64')}:` }],
    ] as const) {
      const sent = client.send('PUT', `/images?name=wrong${query}`, { headers, body: disk });
      assert.equal(await codeOf(sent), 'source-digest-mismatch');
    }
    const listed = await client.send('GET', '/images?status=failed');
    const { images } = (await listed.json()) as { images: WireImage[] };
    const wrong = images.filter(({ name }) => name === 'wrong');
    assert.equal(wrong.length, 3);
    for (const { failure, id } of wrong) {
      assert.match(failure ?? '', /has the digest/);
      assert.equal(await codeOf(client.send('GET', `/images/${id}/raw`)), 'image-not-ready');
      assert.equal((await client.send('DELETE', `/images/${id}`)).status, 200);
      assert.equal(await codeOf(client.send('GET', `/images/${id}`)), 'image-not-found');
    }
    await nothingSpooled();
  });

  test('with the right digests is taken', async () => {
    const headers = {
      'repr-digest': `sha-512=:AAAA:, sha-256=:${sha256(disk, 'base64')}:`,
      'content-digest': `sha-256=:${sha256(disk, 'base64')}:`,
    };
    const path = `/images?name=right&sha256=${sha256(disk)}`;
    const { image } = await started(client.send('PUT', path, { headers, body: disk }));
    await isThere(await client.settled(image.id));
  });

  test('of something damaged, or of a bomb, makes a failed image and nothing else', async () => {
    const bomb = gzipSync(Buffer.alloc(4_000_000));
    const cut = gzipSync(disk).subarray(0, 500_000);
    for (const [body, reason] of [
      [bomb, /more than 3000000 bytes/],
      [cut, /damaged or ends too early/],
    ] as const) {
      const { image } = await started(client.send('PUT', '/images?name=bad', { body }));
      const made = await client.settled(image.id);
      assert.equal(made.status, 'failed');
      assert.match(made.failure ?? '', reason);
    }
    await nothingSpooled();
  });

  test('is refused when it is too large, empty, or has no name or token', async () => {
    const large = Buffer.alloc(2_000_001);
    assert.equal(
      await codeOf(client.send('PUT', '/images?name=a', { body: large })),
      'request-too-large',
    );
    assert.equal(await codeOf(client.send('PUT', '/images?name=a')), 'source-truncated');
    assert.equal(await codeOf(client.send('PUT', '/images', { body: disk })), 'request-invalid');
    assert.equal(await codeOf(client.send('POST', '/images', { body: disk })), 'request-invalid');
    const headers = { authorization: 'Bearer no' };
    const sent = client.send('PUT', '/images?name=a', { headers, body: disk });
    assert.equal(await codeOf(sent), 'not-authorized');
    await nothingSpooled();
  });
});

test('an upload in one request that breaks off goes on in pieces', async () => {
  const some = disk.subarray(0, 300_000);
  const path = `/images?name=broken&sha256=${sha256(disk)}`;
  let place = '';
  await breakOff(path, { 'upload-complete': '?1' }, some, {
    method: 'PUT',
    onPlace: (location) => {
      place = location;
    },
  });
  const listed = await client.send('GET', '/images?status=creating');
  const { images } = (await listed.json()) as { images: WireImage[] };
  const image = images.find(({ name }) => name === 'broken');
  assert.ok(image !== undefined);
  const upload = `/images/${image.id}/upload`;
  assert.equal(place, `104 /api/ingot/v1${upload}`);
  // The daemon may still be writing what came, and be further when the rest arrives.
  let code = 'offset-mismatch';
  for (const deadline = performance.now() + 60_000; code === 'offset-mismatch'; ) {
    assert.ok(performance.now() < deadline, 'it does not settle');
    const head = await client.send('HEAD', upload);
    assert.equal(head.headers.get('upload-length'), '999999');
    const offset = Number(head.headers.get('upload-offset'));
    if (offset === 0) continue;
    // A whole that has other bytes than were promised ends nowhere; nothing more is needed of it.
    const headers = { 'upload-offset': `${offset}`, 'upload-complete': '?1' };
    code = await codeOf(client.send('PATCH', upload, { headers, body: disk.subarray(offset) }));
  }
  assert.equal(code, 'request-invalid');
  const anew = client.send('PUT', upload, { headers: {}, body: disk.subarray(0, 999_999) });
  assert.equal(await codeOf(anew), 'source-digest-mismatch');
  await nothingSpooled();
});

test('an upload that asks first is let in, or refused before its bytes', async () => {
  const first = (token: string): Promise<string> =>
    new Promise((resolve, reject) => {
      const { hostname, port, pathname } = new URL(`${client.api}/images`);
      const socket = connect(Number(port), hostname, () => {
        const lines = [`PUT ${pathname}?name=asks HTTP/1.1`, 'Host: x', 'Content-Length: 900000'];
        lines.push(`Authorization: Bearer ${token}`, 'Expect: 100-continue', '', '');
        socket.write(lines.join('\r\n'));
      });
      socket.once('data', (bytes) => {
        resolve(bytes.toString().slice(0, 12));
        socket.destroy();
      });
      socket.on('error', reject);
    });
  assert.equal(await first('wrong'), 'HTTP/1.1 401');
  assert.equal(await first(client.token), 'HTTP/1.1 100');
});

describe('an upload in pieces', () => {
  test('goes on where it broke off, also after a restart of the daemon', async () => {
    const { image } = await newUpload({ sha256: sha256(disk), size_bytes: disk.byteLength });
    const path = `/images/${image.id}/upload`;
    await breakOff(path, { 'upload-offset': '0' }, disk.subarray(0, 300_000));
    let head = await client.send('HEAD', path);
    const deadline = performance.now() + 60_000;
    while (head.headers.get('upload-offset') === '0' && performance.now() < deadline) {
      head = await client.send('HEAD', path);
    }
    await daemon.reopenImports();
    // Asked for now: before, the daemon may still have been writing what came.
    head = await client.send('HEAD', path);
    const offset = Number(head.headers.get('upload-offset'));
    assert.ok(offset > 0 && offset <= 300_000, `${offset}`);
    assert.equal(head.headers.get('upload-complete'), '?0');
    const end = offset + 100_000;
    const middle = await started(
      client.send('PATCH', path, {
        headers: { 'upload-offset': `${offset}`, 'upload-complete': '?0' },
        body: disk.subarray(offset, end),
      }),
      200,
    );
    assert.equal(middle.upload?.offset, end);
    const wrong = await client.send('PATCH', path, {
      headers: { 'upload-offset': '5' },
      body: disk.subarray(5),
    });
    assert.equal(wrong.status, 409);
    assert.equal(wrong.headers.get('upload-offset'), `${end}`);
    assert.equal(await codeOf(Promise.resolve(wrong)), 'offset-mismatch');
    const last = disk.byteLength - 1;
    const done = await started(
      client.send('PUT', path, {
        headers: { 'content-range': `bytes ${end}-${last}/${disk.byteLength}` },
        body: disk.subarray(end),
      }),
    );
    assert.equal(done.upload, null);
    await isThere(await client.settled(image.id));
  });

  test('is in the list of ingot images as what is being made, as in the guide', async () => {
    const { image } = await newUpload();
    const listed = await runCli(['images', 'list'], daemon.env);
    assert.match(listed.stdout, new RegExp(`^ ${image.id}  .* creating +0 `, 'm'), listed.stderr);
    const failed = await runCli(['images', 'list', '--status', 'failed'], daemon.env);
    assert.doesNotMatch(failed.stdout, new RegExp(image.id));
    assert.equal((await client.send('DELETE', `/images/${image.id}`)).status, 200);
  });

  test('takes a part back whose digest is wrong', async () => {
    const { image } = await newUpload();
    const path = `/images/${image.id}/upload`;
    const half = disk.subarray(0, 512_000);
    const headers = { 'upload-offset': '0', 'upload-complete': '?0' };
    const digest = `sha-256=:${sha256(disk, 'base64')}:`;
    const sent = client.send('PATCH', path, {
      headers: { ...headers, 'content-digest': digest },
      body: half,
    });
    assert.equal(await codeOf(sent), 'source-digest-mismatch');
    const head = await client.send('HEAD', path);
    assert.equal(head.headers.get('upload-offset'), '0');
    await started(client.send('PATCH', path, { headers, body: half }), 200);
    // A PUT without an offset begins anew.
    await started(client.send('PUT', path, { body: disk }));
    await isThere(await client.settled(image.id));
  });

  test('ends with as many bytes as were promised, or goes on', async () => {
    const { image } = await newUpload({ size_bytes: disk.byteLength });
    const path = `/images/${image.id}/upload`;
    const headers = { 'upload-offset': '0', 'upload-complete': '?1' };
    const sent = client.send('PATCH', path, { headers, body: disk.subarray(0, 1000) });
    assert.equal(await codeOf(sent), 'request-invalid');
    const more = Buffer.concat([disk, disk.subarray(0, 10)]);
    const length = { 'upload-offset': '0', 'upload-length': `${more.byteLength}` };
    assert.equal(
      await codeOf(client.send('PATCH', path, { headers: length, body: more })),
      'request-invalid',
    );
    assert.equal((await client.send('DELETE', path)).status, 204);
    const failed = await client.settled(image.id);
    assert.deepEqual([failed.status, failed.failure], ['failed', 'it was given up by its owner']);
    assert.equal(await codeOf(client.send('PATCH', path, { headers: length })), 'image-not-found');
    await nothingSpooled();
  });

  test('is nothing to another account, and not in its list', async () => {
    const { image } = await newUpload();
    const other = await uploadClient({ ...daemon.env, INGOT_CLIENT: 'cli-bbbbb' });
    const path = `/images/${image.id}/upload`;
    assert.equal((await other.send('HEAD', path)).status, 404);
    assert.equal(await codeOf(other.send('DELETE', path)), 'image-not-found');
    assert.equal(await codeOf(other.send('GET', `/images/${image.id}`)), 'image-not-found');
    const listed = await other.send('GET', '/images?status=creating&status=failed');
    assert.deepEqual(((await listed.json()) as { images: unknown[] }).images, []);
    assert.equal((await client.send('DELETE', `/images/${image.id}`)).status, 200);
    assert.equal(await codeOf(client.send('GET', `/images/${image.id}`)), 'image-not-found');
    assert.equal(existsSync(join(daemon.test.folder, 'uploads', image.id)), false);
  });

  test('is refused when an account has too many', async () => {
    const images: WireImage[] = [];
    for (let n = 0; n < 16; n++) images.push((await newUpload()).image);
    const headers = { 'content-type': 'application/json' };
    const body = JSON.stringify({ name: 'one too many' });
    assert.equal(
      await codeOf(client.send('POST', '/images', { headers, body })),
      'too-many-requests',
    );
    for (const { id } of images) await client.send('DELETE', `/images/${id}`);
  });
});
