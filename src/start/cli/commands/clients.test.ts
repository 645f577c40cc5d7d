import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { after, describe, test } from 'node:test';
import { runCli } from '../../../../test/fakes/cli-run.ts';
import { startDaemon } from '../../daemon/daemon.ts';
import { IMPORT_DEFAULTS } from '../../settings/daemon-settings.ts';

const folder = mkdtempSync(join(tmpdir(), 'ingot-clients-'));
after(() => rmSync(folder, { recursive: true }));
const logged = new PassThrough();
const daemon = await startDaemon(
  {
    dataDirectory: folder,
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
  { version: '0.0.0', logTarget: logged },
);
let isRunning = true;
const stop = async (): Promise<void> => {
  if (isRunning) await daemon[Symbol.asyncDispose]();
  isRunning = false;
};
after(stop);
const { client, secret } = daemon.localClient;
const env = { INGOT_URL: daemon.url, INGOT_CLIENT: client, INGOT_SECRET: secret };

interface Made {
  readonly id: string;
  readonly secret: string;
}

async function create(name: string): Promise<Made> {
  const made = await runCli(['clients', 'create', name, '--json'], env);
  assert.equal(made.status, 0, made.stderr);
  return JSON.parse(made.stdout) as Made;
}

describe('ingot clients', () => {
  test('create shows a secret that works, and nothing shows it again', async () => {
    const made = await create('build server');
    const theirs = { ...env, INGOT_CLIENT: made.id, INGOT_SECRET: made.secret };
    const listed = await runCli(['clients', 'list'], theirs);
    assert.equal(listed.status, 0, listed.stderr);
    assert.match(listed.stdout, new RegExp(`^ ${client} +\\S+ +local *$`, 'm'));
    assert.match(listed.stdout, new RegExp(`^ ${made.id} +\\S+ +build server *$`, 'm'));
    const shown = await runCli(['clients', 'show', made.id], env);
    assert.match(shown.stdout, /^ +name: build server$/m);
    const json = await runCli(['clients', 'list', '--json'], env);
    for (const said of [listed.stdout, shown.stdout, json.stdout]) {
      assert.ok(!said.includes(made.secret) && !said.includes('secret'));
    }
    const words = await runCli(['clients', 'create', 'laptop'], env);
    assert.match(words.stdout, /^ +secret: [\w-]{43}$/m);
  });

  test('destroy ends a client at once, but never the one that asks', async () => {
    const made = await create('old');
    const theirs = { ...env, INGOT_CLIENT: made.id, INGOT_SECRET: made.secret };
    assert.equal((await runCli(['clients', 'destroy', made.id], theirs)).status, 71);
    const destroyed = await runCli(['clients', 'destroy', '--yes', made.id], env);
    assert.equal(destroyed.status, 0, destroyed.stderr);
    assert.equal((await runCli(['clients', 'list'], theirs)).status, 70);
    assert.equal((await runCli(['clients', 'show', made.id], env)).status, 91);
    assert.equal((await runCli(['clients', 'destroy', made.id], env)).status, 91);
    assert.ok(!(await runCli(['clients', 'list'], env)).stdout.includes(made.id));
  });

  test('refuses names that break a list, and ids that are none', async () => {
    for (const name of ['', 'a\nb', 'x'.repeat(256)]) {
      assert.equal((await runCli(['clients', 'create', name], env)).status, 72, name);
    }
    for (const command of ['show', 'destroy']) {
      assert.equal((await runCli(['clients', command, 'img-h3nbk'], env)).status, 91);
      assert.equal((await runCli(['clients', command, 'cli-zzzzz'], env)).status, 91);
    }
  });

  test('leaves a word in the log, and no secret', async () => {
    const made = await create('logged');
    await stop();
    logged.end();
    const log = await text(logged);
    assert.match(log, new RegExp(`"clientId":"${made.id}","by":"${client}"`));
    assert.ok(!log.includes(made.secret));
  });
});
