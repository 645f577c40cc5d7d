import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { bytesOf, ingest, segmentOf } from '../contracts/ingest-session.ts';
import { startTestDaemon } from '../fakes/test-daemon.ts';

const execute = promisify(execFile);
const run = (program: string, words: readonly string[]) =>
  execute(program, words, { timeout: 120_000 });

/** What the test needs and the machine does not have. */
function skipReason(): string | false {
  const missing = [
    ['mender-artifact', '--version'],
    ['curl', '--version'],
  ].find(([tool = '', option = '']) => spawnSync(tool, [option]).status !== 0);
  return missing === undefined ? false : `${missing[0]} is not installed`;
}

describe('an artifact that curl got from the daemon', { skip: skipReason() }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'ingot-curl-artifact-'));
  after(() => rmSync(folder, { recursive: true }));

  test('is valid for mender-artifact, also when the download broke off and went on', async () => {
    await using daemon = await startTestDaemon();
    const plains = Array.from({ length: 30 }, (_, i) => bytesOf(i, 9000 + i * 1700));
    const pieces = [...plains.map(segmentOf), 8_000_000];
    const { id } = await ingest(daemon.test.account, 'web', pieces);
    const { INGOT_CLIENT: client, INGOT_SECRET: secret } = daemon.env;
    const api = `${daemon.url}/api/ingot/v1`;
    const { stdout } = await run('curl', [
      ...['-sSf', '-u', `${client}:${secret}`, '-X', 'POST', `${api}/token`],
    ]);
    const { access_token: token } = JSON.parse(stdout) as { access_token: string };
    const url = `${api}/images/${id}/artifact?name=release-1&device_type=qemu&provides=a:b`;
    const file = join(folder, 'release-1.mender');
    const curl = ['-sSf', '-H', `Authorization: Bearer ${token}`, '-o', file, url];
    await run('curl', curl);
    const whole = readFileSync(file);
    writeFileSync(file, whole.subarray(0, 100_001));
    await run('curl', ['-C', '-', ...curl]);
    assert.ok(readFileSync(file).equals(whole));
    const validated = await run('mender-artifact', ['validate', file]);
    assert.match(validated.stdout + validated.stderr, /validated successfully/);
    const read = await run('mender-artifact', ['read', file]);
    assert.match(read.stdout, /Name: release-1\n/);
    assert.match(read.stdout, /name: +rootfs\.ext4\n/);
  });
});
