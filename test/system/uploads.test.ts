import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { systemClock } from '../../src/base/index.ts';
import type { UploadClient, WireImport } from '../fakes/upload-client.ts';
import { uploadClient } from '../fakes/upload-client.ts';
import { missingTools } from '../interop/disk-image.ts';
import { type ChildDaemon, daemonFolder } from './child-daemon.ts';
import { eventually } from './ingot-command.ts';

const missing = missingTools('curl', 'xz').join(', ');
const folder = mkdtempSync(join(tmpdir(), 'ingot-uploads-'));
const daemons = daemonFolder(folder);
after(() => {
  daemons.killAll();
  rmSync(folder, { recursive: true, force: true });
});

const disk = Buffer.concat([randomBytes(3_000_000), Buffer.alloc(2_000_000), randomBytes(576)]);
const file = join(folder, 'disk.img');
writeFileSync(file, disk);

/** What must have come before a sender is killed. */
const BEGUN_BYTES = 300_000;
/** What curl sends in a second: so slowly that whoever looks now and then sees the middle. */
const SLOW_BYTES = '200000';

interface Answer {
  readonly status: number;
  readonly headers: string;
  readonly body: WireImport;
}

/** Runs the real curl. */
function curl(token: string, ...words: string[]): Answer {
  const argv = ['-sS', '-D', '-', '-H', `Authorization: Bearer ${token}`, ...words];
  const { stdout, stderr } = spawnSync('curl', argv, { encoding: 'utf8' });
  // Interim answers come first: 100 Continue.
  const heads = stdout.split('\r\n\r\n');
  const headers = heads.findLast((head) => head.startsWith('HTTP/')) ?? '';
  const text = heads.at(-1) ?? '';
  const status = Number(/^HTTP\/\S+ (\d+)/.exec(headers)?.[1]);
  assert.ok(status > 0, stderr);
  return { status, headers, body: text.startsWith('{') ? JSON.parse(text) : undefined };
}

function download(daemon: ChildDaemon, token: string, imageId: string): Buffer {
  const raw = join(folder, 'back.raw');
  const url = `${daemon.url}/api/ingot/v1/images/${imageId}/raw`;
  const argv = ['-sSf', '-H', `Authorization: Bearer ${token}`, '-o', raw, url];
  assert.equal(spawnSync('curl', argv).status, 0);
  return readFileSync(raw);
}

/** Waits for an image that is being sent, and for so many bytes of it. */
async function brokenImage(client: UploadClient, bytes: number): Promise<string> {
  for (const deadline = performance.now() + 60_000; performance.now() < deadline; ) {
    const listed = await client.send('GET', '/images?status=creating');
    const { images } = (await listed.json()) as { images: { id: string; name: string }[] };
    const id = images.find(({ name }) => name === 'killed')?.id;
    if (id !== undefined && (await offsetOf(client, id)) >= bytes) return id;
    await systemClock.sleep(20);
  }
  throw new Error('nothing is being sent');
}

async function offsetOf(client: UploadClient, id: string): Promise<number> {
  const head = await client.send('HEAD', `/images/${id}/upload`);
  return Number(head.headers.get('upload-offset'));
}

/**
 * Goes on where the daemon says. It may still be writing what came, and be further by then; whoever
 * goes on is told the right place.
 */
async function sendRest(client: UploadClient, id: string): Promise<Answer> {
  const rest = join(folder, 'rest');
  for (const deadline = performance.now() + 60_000; ; ) {
    const ended = await offsetOf(client, id);
    assert.ok(ended >= BEGUN_BYTES && ended < disk.byteLength, `${ended}`);
    writeFileSync(rest, disk.subarray(ended));
    const put = ['-X', 'PATCH', '-H', `Upload-Offset: ${ended}`, '--data-binary', `@${rest}`];
    const sent = curl(client.token, ...put, `${client.api}/images/${id}/upload`);
    if (sent.status !== 409 || performance.now() > deadline) return sent;
  }
}

describe('uploads by curl', { skip: missing === '' ? false : `not installed: ${missing}` }, () => {
  test('curl -T of a compressed disk makes an image', async () => {
    const daemon = await daemons.start('--max-image', '64M');
    const client = await uploadClient(daemon.env);
    const packed = join(folder, 'disk.img.xz');
    assert.equal(spawnSync('sh', ['-c', 'xz -0 -c "$1" > "$2"', 'sh', file, packed]).status, 0);
    const sum = spawnSync('sha256sum', [packed], { encoding: 'utf8' }).stdout.slice(0, 64);
    const sent = curl(client.token, '-T', packed, `${client.api}/images?name=web&sha256=${sum}`);
    assert.equal(sent.status, 202, sent.headers);
    assert.match(sent.headers, /^location: \/api\/ingot\/v1\/images\/img-\w{5}$/im);
    const image = await client.settled(sent.body.image.id);
    assert.equal(image.status, 'available', image.failure ?? '');
    assert.ok(download(daemon, client.token, image.id).equals(disk));

    const bomb = join(folder, 'bomb.xz');
    const zeros = 'head -c 200000000 /dev/zero | xz -0 -c > "$1"';
    assert.equal(spawnSync('sh', ['-c', zeros, 'sh', bomb]).status, 0);
    const refused = curl(client.token, '-T', bomb, `${client.api}/images?name=bomb`);
    const failed = await client.settled(refused.body.image.id);
    assert.equal(failed.failure, 'bomb unpacks to more than 67108864 bytes');
    if (spawnSync('qemu-img', ['--version']).status === 0) {
      const qcow2 = join(folder, 'disk.qcow2');
      spawnSync('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', file, qcow2]);
      const other = curl(client.token, '-T', qcow2, `${client.api}/images?name=qcow2`);
      const converted = await client.settled(other.body.image.id);
      assert.equal(converted.status, 'available', converted.failure ?? '');
      const back = download(daemon, client.token, converted.id);
      assert.ok(back.subarray(0, disk.byteLength).equals(disk));
    }
    assert.equal(await daemon.end('SIGTERM'), 0);
  });

  test('curl -C goes on with an upload whose daemon was killed in its middle', async () => {
    const first = await daemons.start();
    const begun = await uploadClient(first.env);
    const json = ['-H', 'Content-Type: application/json', '-d', '{"name":"in pieces"}'];
    const { image } = curl(begun.token, ...json, `${begun.api}/images`).body;
    const path = `/images/${image.id}/upload`;
    const slow = spawn(
      'curl',
      [
        ...['-sS', '--limit-rate', SLOW_BYTES, '-T', file],
        ...['-H', `Authorization: Bearer ${begun.token}`, `${begun.api}${path}`],
      ],
      { stdio: 'ignore' },
    );
    const received = () => daemons.fileAt(`uploads/${image.id}/received`)?.size ?? 0;
    await eventually('a part', () => received() > BEGUN_BYTES || undefined);
    await first.end('SIGKILL');
    slow.kill('SIGKILL');
    const second = await daemons.start();
    const client = await uploadClient(second.env);
    const head = curl(client.token, '-I', `${client.api}${path}`);
    const offset = /^upload-offset: (\d+)$/im.exec(head.headers)?.[1] ?? '';
    assert.ok(Number(offset) > BEGUN_BYTES && Number(offset) < disk.byteLength, head.headers);
    const sent = curl(client.token, '-C', offset, '-T', file, `${client.api}${path}`);
    assert.equal(sent.status, 202, sent.headers);
    const made = await client.settled(image.id);
    assert.equal(made.status, 'available', made.failure ?? '');
    assert.ok(download(second, client.token, image.id).equals(disk));
    assert.equal(await second.end('SIGTERM'), 0);
  });

  test('curl -T of a whole disk that is killed in its middle is gone on with', async () => {
    const daemon = await daemons.start();
    const client = await uploadClient(daemon.env);
    const sum = spawnSync('sha256sum', [file], { encoding: 'utf8' }).stdout.slice(0, 64);
    const slow = spawn(
      'curl',
      [
        ...[
          '-sS',
          '--limit-rate',
          SLOW_BYTES,
          '-T',
          file,
          '-H',
          `Authorization: Bearer ${client.token}`,
        ],
        `${client.api}/images?name=killed&sha256=${sum}`,
      ],
      { stdio: 'ignore' },
    );
    const id = await brokenImage(client, BEGUN_BYTES);
    slow.kill('SIGKILL');
    const url = `${client.api}/images/${id}/upload`;
    const head = curl(client.token, '-I', url);
    assert.match(head.headers, new RegExp(`^upload-length: ${disk.byteLength}$`, 'im'));
    const sent = await sendRest(client, id);
    assert.equal(sent.status, 202, sent.headers);
    const made = await client.settled(id);
    assert.equal(made.status, 'available', made.failure ?? '');
    assert.ok(download(daemon, client.token, id).equals(disk));
    assert.equal(await daemon.end('SIGTERM'), 0);
  });

  test('an upload that was acknowledged is an image after kill -9', async () => {
    const first = await daemons.start();
    const sender = await uploadClient(first.env);
    const sent = curl(sender.token, '-T', file, `${sender.api}/images?name=acknowledged`);
    assert.equal(sent.status, 202);
    await first.end('SIGKILL');
    const second = await daemons.start();
    const client = await uploadClient(second.env);
    const image = await client.settled(sent.body.image.id);
    assert.equal(image.status, 'available', image.failure ?? '');
    assert.ok(download(second, client.token, image.id).equals(disk));
    assert.equal(await second.end('SIGTERM'), 0);
  });
});
