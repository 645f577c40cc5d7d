import assert from 'node:assert/strict';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { createServer, request, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { gunzipSync, gzipSync, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { bytesOf } from '../../../../test/contracts/ingest-session.ts';
import { runCli } from '../../../../test/fakes/cli-run.ts';
import { startTestDaemon } from '../../../../test/fakes/test-daemon.ts';

const daemon = await startTestDaemon();
const { env } = daemon;
const folder = mkdtempSync(join(tmpdir(), 'ingot-transfer-'));
after(async () => {
  rmSync(folder, { recursive: true });
  await daemon[Symbol.asyncDispose]();
});

const MIB = 1024 * 1024;
const disk = Buffer.concat([
  bytesOf(1, 700_000),
  Buffer.alloc(3 * MIB),
  bytesOf(2, 1_300_001),
  Buffer.alloc(2 * MIB),
]);
const path = (name: string): string => join(folder, name);
writeFileSync(path('disk.raw'), disk);

async function imported(...argv: string[]): Promise<string> {
  const { status, stdout, stderr } = await runCli(['images', 'import', ...argv], env);
  assert.equal(status, 0, stderr);
  return stdout.trim();
}

async function download(argv: string[], own: Readonly<Record<string, string>> = env) {
  const done = await runCli(['images', 'download', '--json', ...argv], own);
  const facts: unknown = done.status === 0 ? JSON.parse(done.stderr.trim()) : undefined;
  return { ...done, facts: facts as Record<string, unknown> };
}

const id = await imported(path('disk.raw'), '--name', 'web');

describe('ingot images import', () => {
  test('takes a file byte for byte and says its id', async () => {
    assert.match(id, /^img-[a-z0-9]{5}$/);
    const { stdoutBytes } = await download([id, '--format', 'raw', '-o', '-']);
    assert.ok(stdoutBytes.equals(disk));
  });

  test('takes the same disk again at no cost, however it is packed', async () => {
    writeFileSync(path('disk.gz'), gzipSync(disk));
    writeFileSync(path('disk.with.any.name'), zstdCompressSync(disk));
    for (const name of ['disk.gz', 'disk.with.any.name']) {
      const again = await imported(path(name), '--name', name);
      const { stdout } = await runCli(['images', 'show', '--json', again], env);
      const image = JSON.parse(stdout) as { added_bytes: number; virtual_size_bytes: number };
      assert.equal(image.virtual_size_bytes, disk.byteLength, name);
      assert.ok(image.added_bytes < 10_000, `${name} added ${image.added_bytes} bytes`);
    }
  });

  test('takes a stream from stdin, packed or not', async () => {
    for (const stream of [disk, gzipSync(disk)]) {
      const { status, stdout, stderr } = await runCli(
        ['images', 'import', '-', '--name', 'piped'],
        env,
        stream,
      );
      assert.equal(status, 0, stderr);
      const { stdoutBytes } = await download([stdout.trim(), '--format', 'raw', '-o', '-']);
      assert.ok(stdoutBytes.equals(disk));
    }
  });

  test('makes no image of half a stream, of nothing, or of what does not unpack', async () => {
    const before = (await daemon.test.account.list()).length;
    const packed = gzipSync(disk);
    const damaged = Buffer.from(packed);
    damaged.fill(0, 5000, 5100);
    const cases: [Uint8Array, number][] = [
      [packed.subarray(0, packed.byteLength - 100), 66],
      [damaged, 66],
      [new Uint8Array(), 45],
    ];
    for (const [stream, expected] of cases) {
      const { status, stderr } = await runCli(
        ['images', 'import', '-', '--name', 'broken', '--spool', folder],
        env,
        stream,
      );
      assert.equal(status, expected, stderr);
    }
    assert.equal((await daemon.test.account.list()).length, before);
    assert.ok(!readdirSync(folder).some((name) => name.includes('spool')), 'no spool is left');
  });

  test('needs a file or a source, not both', async () => {
    assert.equal((await runCli(['images', 'import', '--name', 'x'], env)).status, 72);
    const both = ['images', 'import', 'a', '--source', '/', '--name', 'x'];
    assert.equal((await runCli(both, env)).status, 72);
    assert.equal((await runCli(['images', 'import', '/absent', '--name', 'x'], env)).status, 42);
  });
});

describe('ingot images download', () => {
  test('makes a gzip member, a sparse raw disk, or zstd', async () => {
    const gz = await download([id, '-o', path('out.gz')]);
    assert.equal(gz.status, 0, gz.stderr);
    assert.ok(gunzipSync(readFileSync(path('out.gz'))).equals(disk));
    assert.equal((await download([id, '--format', 'raw', '-o', path('out.raw')])).status, 0);
    assert.ok(readFileSync(path('out.raw')).equals(disk));
    const { blocks } = statSync(path('out.raw'));
    assert.ok(blocks * 512 < disk.byteLength - 4 * MIB, `${blocks * 512} bytes on disk`);
    assert.equal((await download([id, '--format', 'zst', '-o', path('out.zst')])).status, 0);
    assert.ok(zstdDecompressSync(readFileSync(path('out.zst'))).equals(disk));
    assert.deepEqual(
      readdirSync(folder).filter((name) => name.includes('.part')),
      [],
    );
  });

  test('goes on with a part of the same bytes, and not with a part of others', async () => {
    const target = path('resumed.raw');
    const etag = `raw-${id}`;
    writeFileSync(`${target}.part`, disk.subarray(0, MIB));
    writeFileSync(`${target}.part.json`, JSON.stringify({ version: 1, etag }));
    const resumed = await download(['-c', id, '--format', 'raw', '-o', target]);
    assert.equal(resumed.facts['resumedBytes'], MIB);
    assert.ok(readFileSync(target).equals(disk));
    for (const state of [JSON.stringify({ version: 1, etag: 'raw-img-zzzzz' }), 'nonsense']) {
      writeFileSync(`${target}.part`, Buffer.alloc(MIB, 7));
      writeFileSync(`${target}.part.json`, state);
      const anew = await download(['-c', id, '--format', 'raw', '-o', target]);
      assert.equal(anew.facts['resumedBytes'], 0);
      assert.ok(readFileSync(target).equals(disk));
    }
  });

  test('finds a wrong byte in the part that it goes on with, and keeps nothing of it', async () => {
    for (const form of ['raw', 'gz']) {
      const target = path(`wrong.${form}`);
      await download([id, '--format', form, '-o', target]);
      const whole = readFileSync(target);
      rmSync(target);
      const { headers } = await fetchHead(form === 'gz' ? 'gzip' : 'raw');
      const etag = String(headers.get('etag')).replaceAll('"', '');
      const half = Buffer.from(whole.subarray(0, 40_960));
      half[20_000] = (half[20_000] ?? 0) ^ 1;
      writeFileSync(`${target}.part`, half);
      writeFileSync(`${target}.part.json`, JSON.stringify({ version: 1, etag }));
      const { status, stderr } = await download(['-c', id, '--format', form, '-o', target]);
      assert.equal(status, 21, stderr);
      assert.ok(!existsSync(target) && !existsSync(`${target}.part`), form);
    }
  });

  test('mends a connection that breaks, and fails when it breaks for good', async () => {
    const proxy = await breakingProxy(daemon.url, 300_000);
    try {
      const own = { ...env, INGOT_URL: proxy.url };
      const mended = await download([id, '--format', 'raw', '-o', path('mended.raw')], own);
      assert.equal(mended.status, 0, mended.stderr);
      assert.ok(readFileSync(path('mended.raw')).equals(disk));
      assert.ok(proxy.broken() > 2, `${proxy.broken()} connections were broken`);
      proxy.breakAfter(0);
      const failed = await download([id, '--format', 'raw', '-o', path('failed.raw')], own);
      assert.equal(failed.status, 75, failed.stderr);
      assert.ok(!existsSync(path('failed.raw')));
    } finally {
      proxy.server.closeAllConnections();
      proxy.server.close();
    }
  });

  test('refuses what is no regular file', async () => {
    assert.equal((await download([id, '-o', folder])).status, 54);
    assert.equal((await download([id, '-o', '/dev/null'])).status, 54);
    assert.equal((await download([id, '-o', path('absent/x.gz')])).status, 54);
  });

  test('starts anew when the part is longer than the file', async () => {
    const target = path('long.raw');
    writeFileSync(`${target}.part`, '');
    truncateSync(`${target}.part`, disk.byteLength + 4096);
    writeFileSync(`${target}.part.json`, JSON.stringify({ version: 1, etag: `raw-${id}` }));
    assert.equal((await download(['-c', id, '--format', 'raw', '-o', target])).status, 0);
    assert.ok(readFileSync(target).equals(disk));
  });
});

async function fetchHead(form: string): Promise<Response> {
  const basic = Buffer.from(`${env['INGOT_CLIENT']}:${env['INGOT_SECRET']}`).toString('base64');
  const token = await fetch(`${daemon.url}/api/ingot/v1/token`, {
    method: 'POST',
    headers: { authorization: `Basic ${basic}` },
  });
  const { access_token: bearer } = (await token.json()) as { access_token: string };
  return fetch(`${daemon.url}/api/ingot/v1/images/${id}/${form}`, {
    method: 'HEAD',
    headers: { authorization: `Bearer ${bearer}` },
  });
}

/** A proxy that cuts every download after so many bytes. */
async function breakingProxy(
  target: string,
  firstAfterBytes: number,
): Promise<{
  server: Server;
  url: string;
  broken: () => number;
  breakAfter: (bytes: number) => void;
}> {
  let afterBytes = firstAfterBytes;
  let broken = 0;
  const server = createServer((incoming, answer) => {
    const url = new URL(incoming.url ?? '/', target);
    const forwarded = request(
      url,
      { method: incoming.method, headers: incoming.headers },
      (received) => {
        answer.writeHead(received.statusCode ?? 500, received.headers);
        let count = 0;
        received.on('data', (bytes: Buffer) => {
          count += bytes.byteLength;
          if (count <= afterBytes) {
            answer.write(bytes);
            return;
          }
          broken += 1;
          received.destroy();
          answer.destroy();
        });
        received.on('end', () => answer.end());
        received.on('error', () => answer.destroy());
      },
    );
    forwarded.on('error', () => answer.destroy());
    incoming.pipe(forwarded);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    server,
    url: `http://127.0.0.1:${port}`,
    broken: () => broken,
    breakAfter: (bytes) => {
      afterBytes = bytes;
    },
  };
}
