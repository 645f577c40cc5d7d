import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { get as httpGet, type IncomingHttpHeaders, type IncomingMessage } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { after, describe, test } from 'node:test';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { bytesOf, ingest, segmentOf } from '../../../test/contracts/ingest-session.ts';
import { startTestDaemon } from '../../../test/fakes/test-daemon.ts';
import { uploadClient } from '../../../test/fakes/upload-client.ts';

const daemon = await startTestDaemon();
after(() => daemon[Symbol.asyncDispose]());
const client = await uploadClient(daemon.env);
const chunks = [1, 2, 3].map((seed) => bytesOf(seed, 200_000));
const hole = 9_000_000;
const [one, two, three] = chunks.map((chunk) => segmentOf(chunk));
const image = await ingest(
  daemon.test.account,
  'web',
  [one, hole, two, three].filter((x) => x !== undefined),
);
const disk = Buffer.concat(
  [chunks[0], Buffer.alloc(hole), chunks[1], chunks[2]].filter((x) => x !== undefined),
);
const empty = await ingest(daemon.test.account, 'empty', []);
const other = await ingest(
  daemon.test.account,
  'other',
  [three].filter((x) => x !== undefined),
);

async function get(path: string): Promise<{ readonly bytes: Buffer; readonly answer: Response }> {
  const answer = await client.send('GET', `/images/${path}`);
  assert.equal(answer.status, 200, path);
  return { bytes: Buffer.from(await answer.arrayBuffer()), answer };
}

/** A whole answer with what comes behind it: fetch hides trailers. */
async function wholeOf(
  path: string,
  headers: Readonly<Record<string, string>> = {},
): Promise<{
  readonly status: number | undefined;
  readonly headers: IncomingHttpHeaders;
  readonly bytes: Buffer;
  readonly trailers: NodeJS.Dict<string>;
}> {
  const answered = Promise.withResolvers<IncomingMessage>();
  httpGet(
    `${client.api}/images/${path}`,
    { headers: { authorization: `Bearer ${client.token}`, ...headers } },
    answered.resolve,
  ).on('error', answered.reject);
  const answer = await answered.promise;
  const bytes = await buffer(answer);
  return { status: answer.statusCode, headers: answer.headers, bytes, trailers: answer.trailers };
}

describe('files of an image', () => {
  test('have their names, and the bytes of the longer paths', async () => {
    const raw = await get(`${image.id}.raw`);
    assert.ok(raw.bytes.equals(disk));
    const gz = await get(`${image.id}.gz`);
    assert.ok(gz.bytes.equals((await get(`${image.id}/gzip`)).bytes));
    assert.ok(gunzipSync(gz.bytes).equals(disk));
    assert.match(
      gz.answer.headers.get('content-disposition') ?? '',
      new RegExp(`"${image.id}.gz"`),
    );
    const part = await client.send('GET', `/images/${image.id}.gz`, {
      headers: { range: 'bytes=5-9' },
    });
    assert.equal(part.status, 206);
    assert.ok(Buffer.from(await part.arrayBuffer()).equals(gz.bytes.subarray(5, 10)));
  });

  test('are zstd whose length and digest are known once it was read to its end', async () => {
    const first = await wholeOf(`${image.id}.zst`, { range: 'bytes=5-9' });
    assert.equal(first.status, 200);
    assert.equal(first.headers['content-length'], undefined);
    assert.equal(first.headers['accept-ranges'], 'none');
    assert.ok(zstdDecompressSync(first.bytes).equals(disk));
    const digest = `sha-256=:${createHash('sha256').update(first.bytes).digest('base64')}:`;
    assert.equal(first.trailers['repr-digest'], digest, 'comes behind the bytes');

    const second = await wholeOf(`${image.id}.zst`);
    assert.ok(second.bytes.equals(first.bytes), 'the same bytes each time');
    assert.equal(second.headers['content-length'], String(first.bytes.byteLength));
    assert.equal(second.headers['repr-digest'], digest);
    const etag = String(second.headers.etag);
    assert.equal(etag, first.headers.etag);
    const same = await client.send('GET', `/images/${image.id}.zst`, {
      headers: { 'if-none-match': etag },
    });
    assert.equal(same.status, 304);
    const other = await client.send('GET', `/images/${image.id}.zst`, {
      headers: { 'if-match': '"zst-other"' },
    });
    assert.equal(other.status, 412);

    const nothing = await get(`${empty.id}.zst`);
    assert.equal(zstdDecompressSync(nothing.bytes).byteLength, 0);
    const head = await client.send('HEAD', `/images/${image.id}.zst`);
    assert.equal(head.headers.get('content-type'), 'application/zstd');
    assert.equal(head.headers.get('repr-digest'), digest);
  });

  test('have digests beside them that sha256sum takes', async (context) => {
    const folder = mkdtempSync(join(tmpdir(), 'ingot-sums-'));
    context.after(() => rmSync(folder, { recursive: true }));
    for (const name of [`${image.id}.raw`, `${image.id}.gz`, `${other.id}.zst`]) {
      writeFileSync(join(folder, name), (await get(name)).bytes);
      const sum = await get(`${name}.sha256`);
      assert.match(sum.answer.headers.get('content-type') ?? '', /^text\/plain/);
      assert.equal((await get(`${name}.sha256`)).bytes.toString(), sum.bytes.toString());
      writeFileSync(join(folder, `${name}.sha256`), sum.bytes);
      const checked = spawnSync('sha256sum', ['-c', `${name}.sha256`], { cwd: folder });
      assert.equal(checked.status, 0, String(checked.stderr));
    }
    for (const name of [`${image.id}.raw`, `${image.id}.gz`, `${image.id}/gzip`]) {
      const { headers } = await client.send('HEAD', `/images/${name}`);
      assert.match(headers.get('repr-digest') ?? '', /^sha-256=:/, name);
    }
  });

  test('of others, and with other endings, are not there', async () => {
    const other = await uploadClient({ ...daemon.env, INGOT_CLIENT: 'cli-bbbbb' });
    for (const ending of ['.raw', '.gz', '.zst', '.gz.sha256', '.raw.sha256', '.zst.sha256']) {
      assert.equal((await other.send('GET', `/images/${image.id}${ending}`)).status, 404, ending);
    }
    for (const name of [`${image.id}.xz`, `${image.id}.xz.sha256`, 'img-no.gz']) {
      const { status } = await client.send('GET', `/images/${name}`);
      assert.ok(status === 400 || status === 404, `${name} gives ${status}`);
    }
  });
});
