import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { runCli } from '../../../../test/fakes/cli-run.ts';
import { startMemoryDaemon } from '../../../../test/fakes/memory-daemon.ts';

const daemon = await startMemoryDaemon();
const { backend, env } = daemon;
const home = mkdtempSync(join(tmpdir(), 'ingot-cli-'));
after(async () => {
  rmSync(home, { recursive: true });
  await daemon[Symbol.asyncDispose]();
});

describe('ingot images', () => {
  const image = backend.add(Buffer.alloc(3 * 1024 * 1024), {
    name: 'web',
    kind: 'snapshot',
    ownerId: 'acc-h3nbk',
  });

  test('list shows the columns of the guide', async () => {
    const { status, stdout, stderr } = await runCli(['images', 'list'], env);
    assert.equal(status, 0, stderr);
    assert.equal(
      stdout,
      `
 id         owner      type      created_on  status   size  name        
-------------------------------------------------------------------------
 ${image.id}  acc-h3nbk  snapshot  2010-12-19  private  3     web (x86_64)
-------------------------------------------------------------------------

`,
    );
  });

  test('list for programs is JSON or tabs', async () => {
    const json = JSON.parse((await runCli(['images', 'list', '--json'], env)).stdout);
    assert.equal(json[0].virtual_size_bytes, 3 * 1024 * 1024);
    const tabs = (await runCli(['images', 'list', '-s'], env)).stdout;
    assert.deepEqual(tabs.split('\t').slice(0, 3), [image.id, 'acc-h3nbk', 'snapshot']);
  });

  test('show, update, lock and destroy do what they say', async () => {
    const { id } = backend.add(Buffer.alloc(10));
    const updated = await runCli(['images', 'update', id, '--name', 'db', '--public', 'true'], env);
    assert.match(updated.stdout, /^ +name: db \(x86_64\)$/m);
    assert.match((await runCli(['images', 'show', id], env)).stdout, /^ +status: public$/m);
    assert.equal((await runCli(['images', 'lock', id], env)).status, 0);
    const refused = await runCli(['images', 'destroy', id], env);
    assert.equal(refused.status, 31);
    assert.match(refused.stderr, /locked \[image-in-use\]/);
    assert.equal((await runCli(['images', 'unlock', id], env)).status, 0);
    assert.equal((await runCli(['images', 'destroy', id], env)).status, 0);
    assert.equal((await runCli(['images', 'show', id], env)).status, 30);
  });

  test('what is no image id is no image', async () => {
    const { status, stderr } = await runCli(['images', 'show', '../../etc/passwd'], env);
    assert.equal(status, 30);
    assert.match(stderr, /image-not-found/);
  });

  test('a daemon that is not there is named with its address', async () => {
    const away = { ...env, INGOT_URL: 'http://127.0.0.1:1' };
    const { status, stderr } = await runCli(['images', 'list'], away);
    assert.equal(status, 75);
    assert.match(stderr, /no answer from http:\/\/127\.0\.0\.1:1: ECONNREFUSED/);
  });
});

describe('ingot login', () => {
  const own = { XDG_CONFIG_HOME: home };

  test('keeps a profile that works, and config never shows its secret', async () => {
    assert.equal((await runCli(['images', 'list'], own)).status, 77);
    const login = ['login', daemon.url, '--client', backend.caller.clientId, '--name', 'here'];
    assert.equal((await runCli(login, own, 'wrong\n')).status, 70);
    assert.equal((await runCli(['images', 'list'], own)).status, 77);
    const done = await runCli(login, own, `${backend.secret}\n`);
    assert.equal(done.status, 0, done.stderr);
    assert.equal((await runCli(['images', 'list'], own)).status, 0);
    for (const json of [[], ['--json']]) {
      const { stdout } = await runCli(['config', 'list', ...json], own);
      assert.match(stdout, /here/);
      assert.equal(stdout.includes(backend.secret), false);
    }
    assert.equal((await runCli(['config', 'remove', 'here'], own)).status, 0);
    assert.equal((await runCli(['images', 'list'], own)).status, 77);
  });
});
