import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { runCli } from '../../../../../test/fakes/cli-run.ts';
import { argumentsCalledAs } from '../../called-as.ts';

const folder = mkdtempSync(join(tmpdir(), 'ingot-artifact-cli-'));
after(() => rmSync(folder, { recursive: true }));
const at = (name: string): string => join(folder, name);

const image = Buffer.concat([Buffer.alloc(400_000, 'image '), Buffer.alloc(600_000)]);
writeFileSync(at('root.ext4'), image);
const write = ['write', 'rootfs-image', '--no-progress'];
const named = ['-n', 'r1', '-c', 'qemu'];

const artifact = (...args: readonly string[]): ReturnType<typeof runCli> =>
  runCli(['artifact', ...args], {});

async function read(file: string): Promise<Record<string, Record<string, unknown> | unknown[]>> {
  const run = await artifact('read', '--json', file);
  assert.equal(run.status, 0, run.stderr);
  return JSON.parse(run.stdout);
}

describe('ingot artifact', () => {
  test('takes compressed images for what they hold', async () => {
    await artifact(...write, ...named, '-f', at('root.ext4'), '-o', at('plain.mender'));
    for (const [extension, compress] of [
      ['gz', gzipSync],
      ['zst', zstdCompressSync],
    ] as const) {
      writeFileSync(at(`root.ext4.${extension}`), compress(image));
      const file = at(`${extension}.mender`);
      await artifact(...write, ...named, '-f', at(`root.ext4.${extension}`), '-o', file);
      assert.ok(readFileSync(file).equals(readFileSync(at('plain.mender'))), extension);
    }
  });

  test('ends with a status that says why, and leaves nothing', async () => {
    writeFileSync(at('empty'), '');
    writeFileSync(at('cut.gz'), gzipSync(image).subarray(0, 500));
    const out = ['-o', at('failed.mender')];
    const good = ['-f', at('root.ext4')];
    const cases: [number, string[]][] = [
      [2, [...named]],
      [2, ['-n', 'a b', '-c', 'qemu', ...good]],
      [2, ['-n', 'r1', ...good]],
      [2, [...named, '-t', 'other', ...good]],
      [2, [...named, ...good, '-v', '4']],
      [2, [...named, ...good, '--compression', 'brotli']],
      [2, [...named, ...good, '-p', 'novalue']],
      [2, ['-n', 'x'.repeat(257), '-c', 'qemu', ...good]],
      [43, [...named, '-f', at('empty')]],
      [43, [...named, '-f', folder]],
      [62, [...named, ...good, '--max-artifact-size', '1KB']],
      [65, [...named, ...good, '--azure-key', 'x']],
      [65, [...named, ...good, '-k', at('root.ext4')]],
      [66, [...named, '-f', at('cut.gz')]],
      [68, [...named, '-f', at('absent')]],
      [68, [...named, ...good, '-s', at('absent')]],
      [72, [...named, ...good, '-s', at('root.ext4')]],
    ];
    for (const [status, args] of cases) {
      const run = await artifact(...write, ...args, ...out);
      assert.equal(run.status, status, `${args.join(' ')}: ${run.stderr}`);
      assert.deepEqual(
        readdirSync(folder).filter((name) => name.includes('failed')),
        [],
        args.join(' '),
      );
    }
  });

  test('writes provides and clears as mender-artifact does', async () => {
    const file = at('provides.mender');
    const base = [...write, ...named, '-f', at('root.ext4'), '-o', file, '--no-checksum-provide'];
    const cases: [string[], unknown, unknown][] = [
      [
        [],
        { 'rootfs-image.version': 'r1' },
        ['artifact_group', 'rootfs_image_checksum', 'rootfs-image.*'],
      ],
      [
        ['--software-filesystem', 'data', '--software-name', 'app', '--software-version', '7'],
        { 'data.app.version': '7' },
        ['data.app.*'],
      ],
      [['--no-default-software-version'], {}, []],
      [
        ['-p', 'rootfs-image.version:9', '--no-default-clears-provides'],
        { 'rootfs-image.version': '9' },
        [],
      ],
      [
        ['-p', 'rootfs-image.version:9', '--software-version', '8', '--clears-provides', 'x'],
        { 'rootfs-image.version': '8' },
        ['x', 'artifact_group', 'rootfs_image_checksum', 'rootfs-image.*'],
      ],
    ];
    for (const [args, provides, clears] of cases) {
      const run = await artifact(...base, ...args);
      assert.equal(run.status, 0, run.stderr);
      const facts = await read(file);
      assert.deepEqual(facts['provides'], provides, args.join(' '));
      assert.deepEqual(facts['clears_provides'], clears, args.join(' '));
    }
  });

  test('signs in place and keeps the mode of the file', async () => {
    const file = at('mode.mender');
    await artifact(...write, ...named, '-f', at('root.ext4'), '-o', file);
    writeFileSync(file, readFileSync(file), { mode: 0o600 });
    const before = statSync(file).mode;
    const { generateKeyPairSync } = await import('node:crypto');
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
    writeFileSync(at('key.pem'), privateKey.export({ type: 'sec1', format: 'pem' }));
    assert.equal((await artifact('sign', '-k', at('key.pem'), file)).status, 0);
    assert.equal((await artifact('sign', '-k', at('key.pem'), file)).status, 72);
    assert.equal((await artifact('sign', '-f', '-k', at('key.pem'), file)).status, 0);
    assert.equal((await artifact('validate', '-k', at('key.pem'), file)).status, 0);
    assert.equal(statSync(file).mode, before);
  });

  test('dump writes nothing of an artifact that is damaged', async () => {
    const plain = ['-f', at('root.ext4'), '--compression', 'none', '-o', at('whole.mender')];
    await artifact(...write, ...named, ...plain);
    const broken = readFileSync(at('whole.mender'));
    broken[200_000] = (broken[200_000] ?? 0) ^ 1;
    writeFileSync(at('broken.mender'), broken);
    const run = await artifact('dump', '--files', at('dumped'), at('broken.mender'));
    assert.notEqual(run.status, 0);
    assert.deepEqual(readdirSync(at('dumped')), []);
  });
});

test('called as mender-artifact, ingot takes its command line', () => {
  assert.deepEqual(argumentsCalledAs('mender-artifact', ['read', 'x']), ['artifact', 'read', 'x']);
  assert.deepEqual(argumentsCalledAs('mender-artifact', ['-v']), ['--version']);
  for (const name of [undefined, 'ingot', 'toString']) {
    assert.deepEqual(argumentsCalledAs(name, ['read']), ['read']);
  }
});
