import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { bytesOf, ingest, segmentOf } from '../../../../test/contracts/ingest-session.ts';
import { runCli } from '../../../../test/fakes/cli-run.ts';
import { startTestDaemon } from '../../../../test/fakes/test-daemon.ts';

const daemon = await startTestDaemon();
const { env, test: store } = daemon;
after(() => daemon[Symbol.asyncDispose]());
const foreign = { ...env, INGOT_CLIENT: 'cli-bbbbb' };

const one = await ingest(store.account, 'one', [segmentOf(bytesOf(1, 200_000)), 4096]);
const two = await ingest(store.account, 'two', [segmentOf(bytesOf(2, 200_000))]);

describe('ingot library', () => {
  test('stats counts images and chunks', async () => {
    const { stdout } = await runCli(['library', 'stats', '--json'], env);
    const stats = JSON.parse(stdout) as Record<string, number>;
    assert.equal(stats['images'], 2);
    assert.equal(stats['chunks'], 2);
    assert.match((await runCli(['library', 'stats'], env)).stdout, /^ +images: 2$/m);
  });

  test('verify reads everything back and finds no damage', async () => {
    const { status, stdout, stderr } = await runCli(['library', 'verify'], env);
    assert.equal(status, 0, stderr);
    assert.match(stdout, /^No damage: 2 chunks, \d+ bytes read back\.\n$/);
  });

  test('backup says which file it wrote', async () => {
    const { status, stdout, stderr } = await runCli(['library', 'backup'], env);
    assert.equal(status, 0, stderr);
    assert.ok(readFileSync(join(store.folder, stdout.trim())).byteLength > 0);
  });

  test('is for the account that runs the daemon', async () => {
    for (const command of ['stats', 'verify', 'gc', 'backup']) {
      assert.equal((await runCli(['library', command], foreign)).status, 71, command);
    }
  });
});

describe('ingot jobs', () => {
  test('shows own jobs, and nobody sees those of others', async () => {
    const verified = await runCli(['images', 'verify', one.id], env);
    assert.equal(verified.status, 0, verified.stderr);
    const list = JSON.parse((await runCli(['jobs', 'list', '--json'], env)).stdout);
    const job = list.find((found: { subject: string }) => found.subject === one.id);
    const shown = await runCli(['jobs', 'show', '--wait', job.id], env);
    assert.match(shown.stdout, /^ +state: done$/m);
    assert.equal((await runCli(['jobs', 'show', job.id], foreign)).status, 35);
    assert.equal((await runCli(['jobs', 'cancel', job.id], foreign)).status, 35);
    const theirs = await runCli(['jobs', 'list', '--json'], foreign);
    assert.deepEqual(JSON.parse(theirs.stdout), []);
    assert.equal((await runCli(['images', 'verify', one.id], foreign)).status, 30);
  });
});

describe('space and damage', () => {
  test('gc takes back what a destroyed image held, but not too much unasked', async () => {
    assert.equal((await runCli(['images', 'destroy', '--yes', two.id], env)).status, 0);
    const asked = await runCli(['library', 'gc'], env);
    assert.equal(asked.status, 71, asked.stderr);
    const { status, stdout, stderr } = await runCli(['library', 'gc', '--force', '--json'], env);
    assert.equal(status, 0, stderr);
    assert.ok((JSON.parse(stdout) as { freedBytes: number }).freedBytes > 50_000);
    assert.equal((await runCli(['images', 'verify', one.id], env)).status, 0);
  });

  test('verify names a damaged image and ends with 36', async () => {
    for (const name of readdirSync(join(store.folder, 'packs'), { recursive: true })) {
      const path = join(store.folder, 'packs', String(name));
      if (!path.endsWith('.pack')) continue;
      const bytes = readFileSync(path);
      bytes[2000] = (bytes[2000] ?? 0) ^ 0xff;
      writeFileSync(path, bytes);
    }
    const { status, stderr } = await runCli(['library', 'verify'], env);
    assert.equal(status, 36, stderr);
    assert.match(stderr, new RegExp(one.id));
  });
});
