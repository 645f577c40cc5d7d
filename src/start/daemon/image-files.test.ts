import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
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

async function get(path: string): Promise<{ readonly bytes: Buffer; readonly answer: Response }> {
  const answer = await client.send('GET', `/images/${path}`);
  assert.equal(answer.status, 200, path);
  return { bytes: Buffer.from(await answer.arrayBuffer()), answer };
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

  test('are zstd without a length and without parts', async () => {
    const headers = { range: 'bytes=5-9' };
    const answer = await client.send('GET', `/images/${image.id}.zst`, { headers });
    assert.equal(answer.status, 200);
    assert.equal(answer.headers.get('content-length'), null);
    assert.equal(answer.headers.get('accept-ranges'), 'none');
    const bytes = Buffer.from(await answer.arrayBuffer());
    assert.ok(zstdDecompressSync(bytes).equals(disk));
    const nothing = await get(`${empty.id}.zst`);
    assert.equal(zstdDecompressSync(nothing.bytes).byteLength, 0);
    const head = await client.send('HEAD', `/images/${image.id}.zst`);
    assert.equal(head.headers.get('content-type'), 'application/zstd');
  });

  test('have digests beside them that sha256sum takes', async (context) => {
    const folder = mkdtempSync(join(tmpdir(), 'ingot-sums-'));
    context.after(() => rmSync(folder, { recursive: true }));
    for (const name of [`${image.id}.raw`, `${image.id}.gz`]) {
      writeFileSync(join(folder, name), (await get(name)).bytes);
      const sum = await get(`${name}.sha256`);
      assert.match(sum.answer.headers.get('content-type') ?? '', /^text\/plain/);
      assert.equal((await get(`${name}.sha256`)).bytes.toString(), sum.bytes.toString());
      writeFileSync(join(folder, `${name}.sha256`), sum.bytes);
      const checked = spawnSync('sha256sum', ['-c', `${name}.sha256`], { cwd: folder });
      assert.equal(checked.status, 0, String(checked.stderr));
    }
    const raw = await client.send('HEAD', `/images/${image.id}.raw`);
    assert.match(raw.headers.get('repr-digest') ?? '', /^sha-256=:/);
  });

  test('of others, and with other endings, are not there', async () => {
    const other = await uploadClient({ ...daemon.env, INGOT_CLIENT: 'cli-bbbbb' });
    for (const ending of ['.raw', '.gz', '.zst', '.gz.sha256', '.raw.sha256']) {
      assert.equal((await other.send('GET', `/images/${image.id}${ending}`)).status, 404, ending);
    }
    for (const name of [`${image.id}.xz`, `${image.id}.zst.sha256`, 'img-no.gz']) {
      const { status } = await client.send('GET', `/images/${name}`);
      assert.ok(status === 400 || status === 404, `${name} gives ${status}`);
    }
  });
});
