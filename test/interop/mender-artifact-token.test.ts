import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { runCli } from '../fakes/cli-run.ts';

const MODULE = '/usr/lib/softhsm/libsofthsm2.so';
const hasToken = existsSync(MODULE) && spawnSync('softhsm2-util', ['--version']).status === 0;
const hasEngine = spawnSync('openssl', ['engine', 'pkcs11']).status === 0;
const skip = hasToken && hasEngine ? false : 'SoftHSM or openssl’s engine pkcs11 is not installed';

const folder = mkdtempSync(join(tmpdir(), 'ingot-token-'));
after(() => rmSync(folder, { recursive: true }));
const at = (name: string): string => join(folder, name);

test('a key in a token signs and verifies, and other tools verify it too', { skip }, async () => {
  mkdirSync(at('tokens'));
  writeFileSync(at('softhsm2.conf'), `directories.tokendir = ${at('tokens')}\n`);
  process.env['SOFTHSM2_CONF'] = at('softhsm2.conf');
  process.env['PKCS11_MODULE_PATH'] = MODULE;
  const token = ['--token', 'ingot', '--pin', '1234'];
  const init = ['--init-token', '--free', '--label', 'ingot', '--pin', '1234', '--so-pin', '1234'];
  execFileSync('softhsm2-util', init, { stdio: 'pipe' });
  writeFileSync(at('root.ext4'), Buffer.alloc(10_000, 7));
  for (const [i, [kind, option]] of [
    ['ec', 'ec_paramgen_curve:prime256v1'],
    ['rsa', 'rsa_keygen_bits:2048'],
  ].entries()) {
    assert.ok(kind !== undefined && option !== undefined);
    const generate = ['genpkey', '-algorithm', kind, '-pkeyopt', option, '-out', at(kind)];
    execFileSync('openssl', generate, { stdio: 'pipe' });
    execFileSync('openssl', ['pkey', '-in', at(kind), '-pubout', '-out', at(`${kind}.pub`)]);
    const load = ['--import', at(kind), ...token, '--label', kind, '--id', `a${i}`];
    execFileSync('softhsm2-util', load, { stdio: 'pipe' });
    const uri = `pkcs11:token=ingot;object=${kind};pin-value=1234`;
    const source = ['-f', at('root.ext4'), '-n', 'r1', '-c', 'qemu', '-o', at(`${kind}.mender`)];
    const write = ['artifact', 'write', 'rootfs-image', ...source, '--key-pkcs11', uri];
    const written = await runCli(write, {});
    assert.equal(written.status, 0, written.stderr);
    for (const key of [
      ['--key-pkcs11', uri],
      ['-k', at(`${kind}.pub`)],
    ]) {
      const run = await runCli(['artifact', 'validate', ...key, at(`${kind}.mender`)], {});
      assert.equal(run.status, 0, run.stderr);
    }
    const peer = ['validate', '-k', at(`${kind}.pub`), at(`${kind}.mender`)];
    const run = spawnSync('mender-artifact', peer);
    assert.ok(run.error !== undefined || run.status === 0, String(run.stderr));
  }
});
