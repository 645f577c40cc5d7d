import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { runCli } from '../fakes/cli-run.ts';

const TOOLS = ['mkfs.ext4', 'debugfs', 'mformat', 'mcopy', 'sfdisk'];
const missing = TOOLS.filter((tool) => spawnSync(tool, ['-V']).error !== undefined);
const hasPeer = spawnSync('mender-artifact', ['--version']).status === 0;
const MIB = 1024 * 1024;

const folder = mkdtempSync(join(tmpdir(), 'ingot-edit-test-'));
const at = (name: string): string => join(folder, name);
after(() => rmSync(folder, { recursive: true }));

async function ingot(args: readonly string[], input?: string): Promise<string> {
  const run = await runCli(['artifact', ...args], {}, input);
  assert.equal(run.status, 0, `${args.join(' ')}: ${run.stderr}`);
  return run.stdout;
}

async function refused(args: readonly string[], status: number): Promise<void> {
  const run = await runCli(['artifact', ...args], {});
  assert.equal(run.status, status, `${args.join(' ')}: ${run.stderr}`);
}

function makeExt4(file: string, sizeBytes: number): void {
  writeFileSync(file, '');
  truncateSync(file, sizeBytes);
  execFileSync('mkfs.ext4', ['-q', '-d', at('tree'), file], { stdio: 'pipe' });
}

/** Boot (FAT), two roots (ext4), data (ext4), as Mender lays out a card. */
function makeDisk(file: string): void {
  writeFileSync(file, '');
  truncateSync(file, 40 * MIB);
  const table = [1, 9, 19, 29].map((start, i) => {
    const size = i === 0 ? 8 : 10;
    return `start=${start * 2048}, size=${size * 2048}, type=${i === 0 ? 'c' : '83'}`;
  });
  execFileSync('sfdisk', ['-q', file], { input: ['label: dos', ...table].join('\n') });
  const part = at('part');
  makeExt4(part, 10 * MIB);
  for (const start of [9, 19, 29]) {
    execFileSync('dd', [`if=${part}`, `of=${file}`, 'bs=1M', `seek=${start}`, 'conv=notrunc'], {
      stdio: 'pipe',
    });
  }
  writeFileSync(part, '');
  truncateSync(part, 8 * MIB);
  execFileSync('mformat', ['-i', part, '::'], { stdio: 'pipe' });
  execFileSync('dd', [`if=${part}`, `of=${file}`, 'bs=1M', 'seek=1', 'conv=notrunc'], {
    stdio: 'pipe',
  });
}

describe('files inside artifacts and images', {
  skip: missing.length > 0 ? `${missing.join(', ')} not installed` : false,
}, () => {
  before(async () => {
    mkdirSync(at('tree/etc/mender'), { recursive: true });
    writeFileSync(at('tree/etc/mender/mender.conf'), '{"ServerURL":"https://one","B":1}');
    // More than 32 KiB: older tools print only so much.
    writeFileSync(at('tree/big'), Buffer.alloc(100_001, 'big'));
    writeFileSync(at('hello.sh'), '#!/bin/sh\necho hello\n', { mode: 0o750 });
    makeExt4(at('root.ext4'), 10 * MIB);
    execFileSync(
      'openssl',
      [
        'genpkey',
        '-algorithm',
        'ec',
        '-pkeyopt',
        'ec_paramgen_curve:prime256v1',
        '-out',
        at('key.pem'),
      ],
      { stdio: 'pipe' },
    );
    execFileSync('openssl', ['pkey', '-in', at('key.pem'), '-pubout', '-out', at('key.pub')]);
    const write = ['write', 'rootfs-image', '-f', at('root.ext4'), '-n', 'r1', '-c', 'qemu'];
    await ingot([...write, '-o', at('r1.mender'), '--no-progress']);
  });

  test('a file goes into an artifact and comes back with its mode', async () => {
    const image = at('cp.mender');
    copyFileSync(at('r1.mender'), image);
    await ingot(['cp', at('hello.sh'), `${image}:/etc/hello.sh`]);
    await ingot(['cp', `${image}:/etc/hello.sh`, at('back.sh')]);
    assert.deepEqual(readFileSync(at('back.sh')), readFileSync(at('hello.sh')));
    assert.equal(statSync(at('back.sh')).mode & 0o777, 0o750);
    await ingot(['validate', image]);
    const read = JSON.parse(await ingot(['read', '--json', image]));
    assert.equal(read.provides['rootfs-image.checksum'], read.files[0].checksum);
  });

  test('cat prints every byte, cp takes stdin, install makes folders and modes, rm removes', async () => {
    const image = at('more.mender');
    copyFileSync(at('r1.mender'), image);
    assert.equal((await ingot(['cat', `${image}:/big`])).length, 100_001);
    await ingot(['cp', '-', `${image}:/etc/channel`], 'beta');
    assert.equal(await ingot(['cat', `${image}:/etc/channel`]), 'beta');
    await ingot(['install', '-d', `${image}:/opt/a b/c`]);
    await ingot([
      'install',
      '-m',
      '4755',
      at('hello.sh'),
      `${image}:/opt/a b/c/`,
      '-k',
      at('key.pem'),
    ]);
    await ingot(['validate', '-k', at('key.pub'), image]);
    await ingot(['cp', `${image}:/opt/a b/c/hello.sh`, at('suid')]);
    assert.equal(statSync(at('suid')).mode & 0o777, 0o755);
    await refused(['rm', `${image}:/opt`], 72);
    await ingot(['rm', '-r', `${image}:/opt`]);
    await refused(['cat', `${image}:/opt/a b/c/hello.sh`], 68);
    await refused(['cp', at('hello.sh'), `${image}:/nowhere/x`], 68);
    await refused(['cp', at('hello.sh'), `${image}:/etc/../x`], 67);
    await refused(['cat', `${image}:/data/x`], 67);
  });

  test('modify changes what devices read, and keeps the payload where only the header changes', async () => {
    const image = at('modify.mender');
    copyFileSync(at('r1.mender'), image);
    await ingot([
      'modify',
      '-n',
      'r2',
      '-u',
      'https://two',
      '-t',
      'token',
      '-v',
      at('key.pub'),
      image,
    ]);
    assert.equal(await ingot(['cat', `${image}:/etc/mender/artifact_info`]), 'artifact_name=r2');
    assert.equal(
      await ingot(['cat', `${image}:/etc/mender/mender.conf`]),
      '{"B":1,"ServerURL":"https://two","TenantToken":"token"}',
    );
    const before = JSON.parse(await ingot(['read', '--json', image]));
    const changes = ['-p', 'a:b', '-G', 'g', '--clears-provides', 'x.*'];
    const gone = ['--delete-clears-provides', 'artifact_group'];
    await ingot(['modify', ...changes, ...gone, image]);
    const now = JSON.parse(await ingot(['read', '--json', image]));
    assert.equal(now.name, 'r2');
    assert.deepEqual(now.provides, { a: 'b' });
    assert.deepEqual(now.depends_groups, ['g']);
    assert.deepEqual(now.clears_provides, ['rootfs_image_checksum', 'rootfs-image.*', 'x.*']);
    assert.deepEqual(now.files, before.files);
    await ingot(['modify', '--compression', 'lzma', image]);
    assert.equal(JSON.parse(await ingot(['read', '--json', image])).compression, 'xz');
    if (hasPeer) execFileSync('mender-artifact', ['validate', image], { stdio: 'pipe' });
  });

  test('a disk gets the file into both roots, its boot and its data partition', async () => {
    const disk = at('card.sdimg');
    makeDisk(disk);
    await ingot(['cp', at('hello.sh'), `${disk}:/etc/hello.sh`]);
    await ingot(['cp', at('hello.sh'), `${disk}:/uboot/hello.sh`]);
    await ingot(['cp', at('hello.sh'), `${disk}:/data/hello.sh`]);
    const text = readFileSync(at('hello.sh'), 'utf8');
    for (const path of ['/etc/hello.sh', '/uboot/hello.sh', '/data/hello.sh']) {
      assert.equal(await ingot(['cat', `${disk}:${path}`]), text, path);
    }
    for (const start of [9, 19]) {
      const device = `${disk}?offset=${start * MIB}`;
      const shown = execFileSync('debugfs', ['-R', 'cat /etc/hello.sh', device], {
        encoding: 'utf8',
        stdio: 'pipe',
      });
      assert.equal(shown, text);
      execFileSync('e2fsck', ['-fn', device], { stdio: 'pipe' });
    }
    await ingot(['modify', '-u', 'https://three', disk]);
    assert.match(await ingot(['cat', `${disk}:/etc/mender/mender.conf`]), /three/);
    await refused(['rm', `${disk}:/uboot/*`], 67);
    await ingot(['rm', `${disk}:/uboot/hello.sh`]);
    await refused(['cat', `${disk}:/uboot/hello.sh`], 68);
  });

  test('a failing change leaves the image as it was, and nothing beside it', async () => {
    const image = at('kept.img');
    makeExt4(image, 4 * MIB);
    const before = readFileSync(image);
    writeFileSync(at('too-big'), Buffer.alloc(20 * MIB, 1));
    await refused(['cp', at('too-big'), `${image}:/too-big`], 52);
    assert.ok(readFileSync(image).equals(before));
    assert.deepEqual(
      readdirSync(folder).filter((name) => name.includes('partial')),
      [],
    );
  });
});
