import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { after, describe, test } from 'node:test';
import { bytesOf, ingest, segmentOf } from '../../../../../test/contracts/ingest-session.ts';
import { runCli } from '../../../../../test/fakes/cli-run.ts';
import { startMemoryDaemon } from '../../../../../test/fakes/memory-daemon.ts';
import { DaemonClient } from '../../../client/daemon-client.ts';
import { HttpIngestTarget } from '../../../client/http-ingest-target.ts';
import { startDaemon } from '../../../daemon/daemon.ts';
import { IMPORT_DEFAULTS } from '../../../settings/daemon-settings.ts';

const folder = mkdtempSync(join(tmpdir(), 'ingot-from-library-'));
after(() => rmSync(folder, { recursive: true }));
const at = (name: string): string => join(folder, name);

const daemon = await startDaemon(
  {
    dataDirectory: at('data'),
    listen: { host: '127.0.0.1', port: 0 },
    publicUrl: undefined,
    tls: undefined,
    trustProxy: false,
    logLevel: 'info',
    engine: 'zlib',
    writeProfile: false,
    quietMs: 100,
    imports: IMPORT_DEFAULTS,
    schedules: { backup: undefined, collect: undefined, verify: undefined },
  },
  { version: '0.0.0', logTarget: new PassThrough() },
);
after(() => daemon[Symbol.asyncDispose]());
const { url, localClient } = daemon;
const env = { INGOT_URL: url, INGOT_CLIENT: localClient.client, INGOT_SECRET: localClient.secret };

const plains = Array.from({ length: 30 }, (_, i) => bytesOf(i, 2000 + i * 900));
const disk = Buffer.concat([...plains, Buffer.alloc(5_000_000)]);

async function importDisk(): Promise<string> {
  using client = new DaemonClient({ url, ...localClient }, undefined);
  const target = new HttpIngestTarget(client);
  const image = await ingest(target, 'web', [...plains.map(segmentOf), 5_000_000]);
  return image.id;
}

const write = ['artifact', 'write', 'rootfs-image', '-n', 'r1', '-c', 'qemu', '--no-progress'];

describe('an artifact of an image of the library', () => {
  test('holds the image, signed here, with any option', async () => {
    const id = await importDisk();
    const pair = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
    writeFileSync(at('key.pem'), pair.privateKey.export({ type: 'sec1', format: 'pem' }));
    writeFileSync(at('key.pub'), pair.publicKey.export({ type: 'spki', format: 'pem' }));
    const options = ['-f', id, '-p', 'a:b', '-k', at('key.pem'), '-o', at('r1.mender')];
    const written = await runCli([...write, ...options], env);
    assert.equal(written.status, 0, written.stderr);
    const validate = ['artifact', 'validate', '-k', at('key.pub'), at('r1.mender')];
    const validated = await runCli(validate, {});
    assert.equal(validated.status, 0, validated.stderr);
    await runCli(['artifact', 'dump', '--files', at('files'), at('r1.mender')], {});
    const [name = ''] = readdirSync(at('files'));
    assert.ok(readFileSync(join(at('files'), name)).equals(disk));
  });

  test('can be coded otherwise', async () => {
    const id = await importDisk();
    const options = ['-f', id, '--compression', 'none', '-o', at('none.mender')];
    const written = await runCli([...write, ...options], env);
    assert.equal(written.status, 0, written.stderr);
    assert.equal((await runCli(['artifact', 'validate', at('none.mender')], {})).status, 0);
    assert.ok(readFileSync(at('none.mender')).includes(disk.subarray(0, 100_000)));
  });

  test('is not written when the daemon gives another kind of gzip member', async () => {
    await using other = await startMemoryDaemon();
    const { id } = other.backend.add(bytesOf(1, 100_000));
    const refused = await runCli([...write, '-f', id, '-o', at('other.mender')], other.env);
    assert.equal(refused.status, 76, refused.stderr);
    assert.deepEqual(
      readdirSync(folder).filter((file) => file.includes('other')),
      [],
    );
  });

  test('names an image that is not there', async () => {
    const refused = await runCli([...write, '-f', 'img-zzzzz', '-o', at('no.mender')], env);
    assert.equal(refused.status, 30, refused.stderr);
  });
});
