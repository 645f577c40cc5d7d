import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { runCli } from '../fakes/cli-run.ts';
import { withoutTempFileTraces } from '../support/tar-normal.ts';

const hasPeer = spawnSync('mender-artifact', ['--version']).status === 0;
const folder = mkdtempSync(join(tmpdir(), 'ingot-artifact-'));
const at = (name: string): string => join(folder, name);

after(() => rmSync(folder, { recursive: true }));

function peer(...args: string[]): string {
  return execFileSync('mender-artifact', args, { encoding: 'utf8', stdio: 'pipe' });
}

async function ingot(...args: string[]): Promise<string> {
  const run = await runCli(['artifact', ...args], {});
  assert.equal(run.status, 0, `${args.join(' ')}: ${run.stderr}`);
  return run.stdout;
}

/** Bytes that compress a little, with zeros between. */
function seededImage(sizeBytes: number): Buffer {
  const image = Buffer.alloc(sizeBytes);
  for (let block = 0; block * 4096 < sizeBytes; block += 3) {
    const noise = createHash('sha512').update(String(block)).digest();
    for (let copy = 0; copy < 32; copy++) noise.copy(image, block * 4096 + copy * 64);
  }
  // Whole chunks of zeros in the middle and at the end.
  return image.fill(0, 512 * 1024, 1024 * 1024 + 300).fill(0, sizeBytes - 400_000);
}

describe('artifacts of ingot, taken by mender-artifact 3.9', { skip: skipReason() }, () => {
  before(() => {
    writeFileSync(at('root.ext4'), seededImage(3_000_321));
    chmodSync(at('root.ext4'), 0o644);
    writeFileSync(at('ArtifactInstall_Enter_10_stop'), '#!/bin/sh\n');
    writeFileSync(at('meta.json'), '{"b":1,"a":{"z":[1,2.50,1e30],"y":"<&>"}}');
    writeFileSync(at('one.sh'), 'one');
    writeFileSync(at('two.txt'), Buffer.alloc(513, 2));
    for (const [name, type] of [
      ['rsa', 'rsa'],
      ['ec', 'ec'],
    ] as const) {
      const options = type === 'rsa' ? ['rsa_keygen_bits:2048'] : ['ec_paramgen_curve:prime256v1'];
      execFileSync(
        'openssl',
        ['genpkey', '-algorithm', type, '-pkeyopt', ...options, '-out', at(`${name}.pem`)],
        { stdio: 'pipe' },
      );
      execFileSync('openssl', [
        'pkey',
        '-in',
        at(`${name}.pem`),
        '-pubout',
        '-out',
        at(`${name}.pub`),
      ]);
    }
  });

  for (const compression of ['none', 'gzip', 'lzma']) {
    test(`a rootfs image with compression ${compression} is valid for both`, async () => {
      const file = at(`rootfs-${compression}.mender`);
      await ingot(
        ...['write', 'rootfs-image', '-f', at('root.ext4'), '-n', 'r1', '-c', 'a', '-c', 'b'],
        ...['--compression', compression, '-o', file, '--no-progress'],
        ...['-s', at('ArtifactInstall_Enter_10_stop')],
      );
      assert.match(peer('validate', file), /validated successfully/);
      assert.match(await ingot('validate', file), /validated successfully/);
      assert.match(peer('read', file), /ArtifactInstall_Enter_10_stop/);
    });
  }

  test('module images, augmented ones, bootstrap artifacts and version 2 are valid', async () => {
    const module = ['-T', 'script', '-f', at('one.sh'), '-f', at('two.txt'), '-m', at('meta.json')];
    const named = ['-n', 'm1', '-t', 'qemu', '-p', 'k:v', '-d', 'x:y'];
    const augment = [
      ...['--augment-type', 'script', '--augment-file', at('meta.json')],
      ...['--augment-meta-data', at('meta.json'), '--augment-provides', 'ap:v'],
    ];
    await ingot('write', 'module-image', ...module, ...named, '-o', at('module.mender'));
    // A second payload name: the same file may not be there twice.
    await ingot(
      'write',
      'module-image',
      ...module,
      ...named,
      ...augment,
      '-o',
      at('augmented.mender'),
    );
    await ingot('write', 'bootstrap-artifact', ...named, '-o', at('boot.mender'));
    const v2 = [
      'write',
      'rootfs-image',
      '-f',
      at('root.ext4'),
      '-n',
      'old',
      '-t',
      'qemu',
      '-v',
      '2',
    ];
    await ingot(...v2, '-o', at('v2.mender'));
    for (const name of ['module', 'augmented', 'boot', 'v2']) {
      assert.match(peer('validate', at(`${name}.mender`)), /validated successfully/, name);
      await ingot('validate', at(`${name}.mender`));
    }
  });

  test('signatures of both kinds are verified by both', async () => {
    for (const kind of ['rsa', 'ec']) {
      const file = at(`signed-${kind}.mender`);
      const source = ['-f', at('root.ext4'), '-n', 'r1', '-c', 'qemu'];
      await ingot('write', 'rootfs-image', ...source, '-k', at(`${kind}.pem`), '-o', file);
      assert.match(peer('validate', '-k', at(`${kind}.pub`), file), /validated successfully/);
      await ingot('validate', '-k', at(`${kind}.pub`), file);
      const unchecked = await runCli(['artifact', 'validate', file], {});
      assert.equal(unchecked.status, 65, unchecked.stderr);
    }
    const wrong = await runCli(
      ['artifact', 'validate', '-k', at('ec.pub'), at('signed-rsa.mender')],
      {},
    );
    assert.equal(wrong.status, 64, wrong.stderr);
  });

  test('the bytes equal those of mender-artifact but for its temporary files', async () => {
    const same = ['-n', 'r1', '-t', 'qemu', '-p', 'a:<1>', '-N', 'r0', '-G', 'g', '-g', 'h'];
    const modules = [
      ...['module-image', '-T', 'script', '-f', at('one.sh'), '-f', at('two.txt')],
      ...['-m', at('meta.json'), '-s', at('ArtifactInstall_Enter_10_stop'), ...same],
    ];
    const v2 = ['rootfs-image', '-v', '2', '-f', at('root.ext4'), '-n', 'r1', '-t', 'qemu'];
    const boot = ['bootstrap-artifact', ...same];
    for (const [name, args] of Object.entries({ modules, v2, boot })) {
      const none = ['--compression', 'none'];
      peer('write', ...args, ...none, '-o', at(`${name}-peer.mender`));
      await ingot('write', ...args, ...none, '-o', at(`${name}-ours.mender`));
      const [theirs, ours] = ['peer', 'ours'].map((who) =>
        withoutTempFileTraces(readFileSync(at(`${name}-${who}.mender`))),
      );
      assert.deepEqual(ours, theirs, name);
    }
  });
});

describe('artifacts of mender-artifact 3.9, taken by ingot', { skip: skipReason() }, () => {
  test('all that it writes is valid, and read as it says', async () => {
    const source = ['-f', at('root.ext4'), '-n', 'r1', '-t', 'qemu'];
    execFileSync('openssl', ['rsa', '-traditional', '-in', at('rsa.pem'), '-out', at('rsa1.pem')], {
      stdio: 'pipe',
    });
    const variants: Record<string, string[]> = {
      gzip: ['rootfs-image', ...source],
      lzma: ['rootfs-image', ...source, '--compression', 'lzma'],
      v2: ['rootfs-image', ...source, '-v', '2'],
      boot: ['bootstrap-artifact', '-n', 'b', '-t', 'qemu'],
      augmented: [
        ...['module-image', '-T', 'script', '-f', at('one.sh'), '-n', 'm', '-t', 'qemu'],
        ...['--augment-type', 'script', '--augment-file', at('two.txt')],
      ],
    };
    for (const [name, args] of Object.entries(variants)) {
      peer('write', ...args, '-o', at(`their-${name}.mender`));
      await ingot('validate', at(`their-${name}.mender`));
    }
    peer('write', 'rootfs-image', ...source, '-k', at('rsa1.pem'), '-o', at('their-signed.mender'));
    await ingot('validate', '-k', at('rsa.pub'), at('their-signed.mender'));
    const read = JSON.parse(await ingot('read', '--json', at('their-gzip.mender')));
    assert.equal(read.provides['rootfs-image.version'], 'r1');
    assert.match(read.notices[0], /type-info has no type/);
  });
});

function skipReason(): string | false {
  return hasPeer ? false : 'mender-artifact is not installed';
}
