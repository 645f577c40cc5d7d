import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { after, describe, test } from 'node:test';
import { isFailure } from '../../base/index.ts';
import { DaemonClient } from '../client/daemon-client.ts';
import { type DaemonSettings, IMPORT_DEFAULTS } from '../settings/daemon-settings.ts';
import { type Daemon, startDaemon } from './daemon.ts';

const folder = mkdtempSync(join(tmpdir(), 'ingot-daemon-'));
after(() => rmSync(folder, { recursive: true }));

function settings(change: Partial<DaemonSettings> = {}): DaemonSettings {
  return {
    dataDirectory: join(folder, 'data'),
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
    ...change,
  };
}

const logged = new PassThrough();
const start = (change?: Partial<DaemonSettings>): Promise<Daemon> =>
  startDaemon(settings(change), { version: '0.0.0', logTarget: logged });

function clientOf({ url, localClient }: Daemon): DaemonClient {
  return new DaemonClient({ url, ...localClient }, undefined);
}

async function count(client: DaemonClient): Promise<number> {
  let images = 0;
  for await (const _image of client.images()) images += 1;
  return images;
}

describe('a daemon', () => {
  test('makes an account and a client on first start, and knows them on the next', async () => {
    const first = await start();
    const { client, secret } = first.localClient;
    {
      using asked = clientOf(first);
      assert.equal(await count(asked), 0);
    }
    await first[Symbol.asyncDispose]();
    await using second = await start();
    assert.deepEqual(second.localClient, { client, secret });
    using asked = clientOf(second);
    assert.equal(await count(asked), 0);
  });

  test('keeps its secrets where only its user reads them, and out of the log', async () => {
    await using daemon = await start({ logLevel: 'debug' });
    using asked = clientOf(daemon);
    await count(asked);
    for (const name of ['keys/token.key', 'keys/local-client.json']) {
      assert.equal(statSync(join(folder, 'data', name)).mode & 0o777, 0o600, name);
    }
    const log = String(logged.read() ?? '');
    assert.match(log, /"path":"\/api\/ingot\/v1\/images"/);
    assert.equal(log.includes(daemon.localClient.secret), false);
    assert.equal(log.includes('Bearer'), false);
    const stateFile = readFileSync(join(folder, 'data/state.db'));
    assert.equal(stateFile.includes(daemon.localClient.secret), false);
  });

  test('refuses a directory that another daemon has, and an address that is taken', async () => {
    await using daemon = await start();
    await assert.rejects(start(), (thrown) => isFailure(thrown, 'library-busy'));
    const port = Number(new URL(daemon.url).port);
    await assert.rejects(
      start({ dataDirectory: join(folder, 'other'), listen: { host: '127.0.0.1', port } }),
      (thrown) => isFailure(thrown, 'settings-invalid') && /EADDRINUSE/.test(thrown.message),
    );
    await using other = await start({ dataDirectory: join(folder, 'other') });
    assert.notEqual(other.url, daemon.url);
  });
});
