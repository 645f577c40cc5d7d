import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { after, test } from 'node:test';
import { isFailure } from '../../base/index.ts';
import { DaemonClient } from '../client/daemon-client.ts';
import { IMPORT_DEFAULTS } from '../settings/daemon-settings.ts';
import { startDaemon } from './daemon.ts';

const folder = mkdtempSync(join(tmpdir(), 'ingot-tls-'));
after(() => rmSync(folder, { recursive: true }));

test('a daemon with a certificate speaks TLS, and only to who trusts it', async (t) => {
  const [cert, key] = [join(folder, 'cert.pem'), join(folder, 'key.pem')];
  const argv = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1'];
  const more = [
    '-nodes',
    '-days',
    '2',
    '-subj',
    '/CN=ingot',
    '-addext',
    'subjectAltName=IP:127.0.0.1',
  ];
  const made = spawnSync('openssl', [...argv, ...more, '-keyout', key, '-out', cert]);
  if (made.status !== 0) {
    t.skip('openssl is not installed');
    return;
  }
  const settings = {
    dataDirectory: join(folder, 'data'),
    listen: { host: '127.0.0.1', port: 0 },
    publicUrl: undefined,
    tls: { cert: readFileSync(cert, 'utf8'), key: readFileSync(key, 'utf8'), certPath: cert },
    trustProxy: false,
    logLevel: 'error',
    engine: 'zlib',
    writeProfile: false,
    quietMs: 100,
    imports: IMPORT_DEFAULTS,
    schedules: { backup: undefined, collect: undefined, verify: undefined },
  } as const;
  await using daemon = await startDaemon(settings, {
    version: '0.0.0',
    logTarget: new PassThrough(),
  });
  assert.match(daemon.url, /^https:/);
  using trusting = new DaemonClient(
    { url: daemon.url, ...daemon.localClient, ca: cert },
    undefined,
  );
  await trusting.login();
  for (let turn = 0; turn < 2; turn++) {
    await assert.rejects(
      trusting.bytes('/images/img-zzzzz/chunks/0', Buffer.alloc(4), (length) =>
        Buffer.alloc(length),
      ),
      (thrown) => isFailure(thrown, 'image-not-found'),
    );
  }
  using doubting = new DaemonClient({ url: daemon.url, ...daemon.localClient }, undefined);
  await assert.rejects(doubting.login(), (thrown) => isFailure(thrown, 'daemon-unreachable'));
});
