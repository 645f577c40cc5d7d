import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { readDisk } from '../../../test/contracts/test-library.ts';
import { runCli } from '../../../test/fakes/cli-run.ts';
import { startTestDaemon } from '../../../test/fakes/test-daemon.ts';
import { uploadClient, type WireImport } from '../../../test/fakes/upload-client.ts';
import type { WireImage } from '../../serve/index.ts';

const disk = Buffer.concat([randomBytes(600_000), Buffer.alloc(200_000), randomBytes(4096)]);
const packed = gzipSync(disk);

type Answer = (request: IncomingMessage, response: ServerResponse) => void;
const answers = new Map<string, Answer>();
const asked: IncomingMessage[] = [];
const server = createServer((request, response) => {
  asked.push(request);
  const answer = answers.get(request.url ?? '');
  if (answer === undefined) response.writeHead(404).end();
  else answer(request, response);
}).listen(0, '127.0.0.1');
await once(server, 'listening');
const { port } = server.address() as AddressInfo;
const base = `http://127.0.0.1:${port}`;

const limits = { maxUploadBytes: 1_000_000, maxImageBytes: 3_000_000 };
const daemon = await startTestDaemon({ ...limits, mayFetchPrivate: true });
const careful = await startTestDaemon(limits);
after(async () => {
  server.closeAllConnections();
  server.close();
  await daemon[Symbol.asyncDispose]();
  await careful[Symbol.asyncDispose]();
});
const client = await uploadClient(daemon.env);
const carefulClient = await uploadClient(careful.env);

async function begin(url: string, about: object = {}, at = client): Promise<Response> {
  return await at.send('POST', '/images', {
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ name: 'fetched', url, ...about }),
  });
}

async function fetched(url: string, about: object = {}, at = client): Promise<WireImage> {
  const answer = await begin(url, about, at);
  const { image, job } = (await answer.json()) as WireImport;
  assert.equal(answer.status, 202);
  assert.equal(job?.kind, 'import');
  return await at.settled(image.id);
}

async function isDisk(image: WireImage): Promise<void> {
  assert.equal(image.status, 'available', image.failure ?? '');
  assert.ok((await readDisk(daemon.test.account, image.id)).equals(disk));
}

describe('an import by URL', () => {
  answers.set('/disk.gz?signature=secret', (_request, response) => response.end(packed));
  answers.set('/moved', (_request, response) => {
    response.writeHead(302, { location: '/disk.gz?signature=secret' }).end();
  });

  test('is fetched over redirects, and shows no query', async () => {
    const sha256 = createHash('sha256').update(packed).digest('hex');
    const image = await fetched(`${base}/moved`, { sha256 });
    await isDisk(image);
    assert.equal(image.capture.source, `${base}/moved`);
    const other = await fetched(`${base}/disk.gz?signature=secret`, { sha256: 'a'.repeat(64) });
    assert.match(other.failure ?? '', /has the digest/);
  });

  test('by the command says its id and what was noticed', async () => {
    const argv = ['images', 'import', `${base}/moved`, '--name', 'by command', '--quiet'];
    const { status, stdout, stderr } = await runCli(argv, daemon.env);
    assert.equal(status, 0, stderr);
    assert.match(stderr, /^note: no known filesystem: everything is copied$/m);
    await isDisk(await client.settled(stdout.trim()));
    const missing = await runCli(['images', 'import', `${base}/no`, '-n', 'none'], daemon.env);
    assert.equal(missing.status, 42);
    assert.match(missing.stderr, /answers 404/);
    const listed = await runCli(['images', 'list', '--status', 'failed', '--json'], daemon.env);
    const failed = JSON.parse(listed.stdout) as { name: string; failure: string }[];
    assert.match(failed.find(({ name }) => name === 'none')?.failure ?? '', /answers 404/);
  });

  test('goes on where the connection broke, if the file is the same', async () => {
    let breaks = 0;
    answers.set('/breaking', (request, response) => {
      const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
      if (start > 0) assert.equal(request.headers['if-range'], '"one"');
      const rest = packed.subarray(start);
      const range = `bytes ${start}-${packed.byteLength - 1}/${packed.byteLength}`;
      response.writeHead(start > 0 ? 206 : 200, {
        etag: '"one"',
        'content-length': rest.byteLength,
        ...(start > 0 ? { 'content-range': range } : {}),
      });
      breaks += 1;
      if (breaks > 3) response.end(rest);
      else response.write(rest.subarray(0, 200_000), () => response.destroy());
    });
    await isDisk(await fetched(`${base}/breaking`));
    assert.equal(breaks, 4);
  });

  test('begins anew when the file is another one, or has no version', async () => {
    let turn = 0;
    answers.set('/changing', (request, response) => {
      turn += 1;
      const body = turn === 1 ? Buffer.alloc(packed.byteLength + 5, 1) : packed;
      const headers = { etag: `"${turn}"`, 'content-length': body.byteLength };
      response.writeHead(200, headers);
      if (turn > 1) response.end(body);
      else response.write(body.subarray(0, 300_000), () => response.destroy());
      assert.equal(request.headers.range !== undefined, turn > 1);
    });
    await isDisk(await fetched(`${base}/changing`));
    let tries = 0;
    answers.set('/nameless', (request, response) => {
      assert.equal(request.headers.range, undefined);
      response.writeHead(200, { 'content-length': packed.byteLength });
      tries += 1;
      if (tries > 1) response.end(packed);
      else response.write(packed.subarray(0, 300_000), () => response.destroy());
    });
    await isDisk(await fetched(`${base}/nameless`));
  });

  test('fails with the reason: status, size, endless redirects, emptiness', async () => {
    answers.set('/large', (_request, response) => {
      response.writeHead(200, { 'content-length': 1_000_001 });
      response.write('x');
    });
    answers.set('/endless', (_request, response) => {
      const more = (): void => void response.write(Buffer.alloc(65_536), more);
      more();
    });
    answers.set('/loop', (_request, response) =>
      response.writeHead(301, { location: '/loop' }).end(),
    );
    answers.set('/file', (_request, response) =>
      response.writeHead(301, { location: 'file:///etc/passwd' }).end(),
    );
    answers.set('/empty', (_request, response) => response.end());
    answers.set('/forbidden', (_request, response) => response.writeHead(403).end());
    for (const [path, reason] of [
      ['/no', /answers 404/],
      ['/forbidden', /answers 403/],
      ['/large', /at most 1000000 bytes/],
      ['/endless', /more than 1000000 bytes/],
      ['/loop', /more than 5 redirects/],
      ['/file', /no http or https URL/],
      ['/empty', /is empty/],
    ] as const) {
      const image = await fetched(`${base}${path}`);
      assert.equal(image.status, 'failed', path);
      assert.match(image.failure ?? '', reason, path);
    }
  });

  test('is refused at once when it is no URL to fetch from', async () => {
    for (const url of [
      'file:///etc/passwd',
      'ftp://example.org/x',
      'http://me:pw@example.org/',
      'x',
    ]) {
      const answer = await begin(url);
      assert.equal(answer.status, 400, url);
    }
  });

  test('goes to no address that is not public, whatever way leads there', async () => {
    const before = asked.length;
    for (const host of ['127.0.0.1', 'localhost', '[::1]', '169.254.169.254', '2130706433']) {
      const image = await fetched(`http://${host}:${port}/moved`, {}, carefulClient);
      assert.equal(image.status, 'failed');
      assert.match(image.failure ?? '', /no address of the public network/, host);
    }
    assert.equal(asked.length, before);
  });
});
