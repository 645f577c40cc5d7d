import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { isFailure, MIB } from '../../src/base/index.ts';
import { type DiskFormat, sniffDiskFormat, totalBytes } from '../../src/bytes/index.ts';
import {
  type ImageFileRequest,
  openReceivedFile,
} from '../../src/capture/adapters/open-image-file.ts';
import { runInSandbox, SMALL_TOOL_LIMITS } from '../../src/capture/adapters/tool-sandbox.ts';
import { missingTools } from './disk-image.ts';

const missing = missingTools('qemu-img', 'qemu-io', 'unshare', 'prlimit').join(', ');
const folder = mkdtempSync(join(tmpdir(), 'ingot-formats-'));
const spoolFolder = join(folder, 'spool');
mkdirSync(spoolFolder);
after(() => rmSync(folder, { recursive: true, force: true }));
const path = (name: string): string => join(folder, name);
const SIZE_BYTES = 24 * MIB;
const never = new AbortController().signal;

const disk = Buffer.alloc(SIZE_BYTES);
randomBytes(700_000).copy(disk, 1_048_576);
randomBytes(70_000).copy(disk, SIZE_BYTES - 70_000);
const plain = path('plain.raw');
writeFileSync(plain, disk);

function qemuImg(...argv: string[]): void {
  const { status, stderr } = spawnSync('qemu-img', argv, { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
}

async function import_(file: string, changes: Partial<ImageFileRequest> = {}) {
  return await openReceivedFile(file, {
    name: 'disk',
    freeSpace: 'keep',
    spoolFolder,
    signal: never,
    maxDiskBytes: 64 * MIB,
    ...changes,
  });
}

async function digestOf(file: string, changes: Partial<ImageFileRequest> = {}): Promise<string> {
  await using source = await import_(file, changes);
  const pass = await source.pass('frozen');
  const bytes = await pass.read(0, source.sizeBytes);
  assert.ok(totalBytes(pass.extents) < 4 * MIB, 'holes stay holes');
  assert.doesNotMatch(source.notices().join(), /qemu-img/, 'it ran in namespaces');
  await pass.end();
  return createHash('sha256').update(bytes.subarray(0, SIZE_BYTES)).digest('hex');
}

/** Changes some bytes of a file. */
function poke(file: string, offset: number, bytes: Buffer): void {
  const fd = openSync(file, 'r+');
  writeSync(fd, bytes, 0, bytes.byteLength, offset);
  closeSync(fd);
}

const u64 = (value: bigint, order: 'BE' | 'LE'): Buffer => {
  const bytes = Buffer.alloc(8);
  if (order === 'BE') bytes.writeBigUInt64BE(value);
  else bytes.writeBigUInt64LE(value);
  return bytes;
};

describe('disks in forms of their own', {
  skip: missing === '' ? false : `not installed: ${missing}`,
}, () => {
  const expected = createHash('sha256').update(disk).digest('hex');
  const forms: readonly (readonly [DiskFormat, string, ...string[]])[] = [
    ['qcow2', 'qcow2'],
    ['qcow2', 'qcow2-compressed', '-c'],
    ['qcow2', 'qcow2-v2', '-o', 'compat=0.10'],
    ['vmdk', 'vmdk'],
    ['vmdk', 'vmdk-stream', '-o', 'subformat=streamOptimized'],
    ['vdi', 'vdi'],
    ['vhdx', 'vhdx'],
    ['vpc', 'vpc', '-o', 'force_size=on'],
  ];
  for (const [format, name, ...options] of forms) {
    test(`${name} is told by its first bytes and becomes the disk that it has`, async () => {
      const file = path(name);
      qemuImg('convert', '-f', 'raw', '-O', format, ...options, plain, file);
      assert.equal(sniffDiskFormat(readFileSync(file).subarray(0, 512)), format);
      assert.equal(await digestOf(file), expected);
      assert.deepEqual(readdirSync(spoolFolder), []);
    });
  }

  test('a qcow2 that is packed is unpacked first', async () => {
    writeFileSync(path('packed'), gzipSync(readFileSync(path('qcow2'))));
    assert.equal(await digestOf(path('packed')), expected);
    assert.deepEqual(readdirSync(spoolFolder), []);
  });

  test('a fixed VHD is one when somebody says so', async () => {
    const file = path('fixed.vhd');
    const options = 'subformat=fixed,force_size=on';
    qemuImg('convert', '-f', 'raw', '-O', 'vpc', '-o', options, plain, file);
    assert.equal(await digestOf(file, { format: 'vpc' }), expected);
  });

  test('a raw disk that somebody calls raw stays what it is', async () => {
    await using source = await import_(path('qcow2'), { format: 'raw' });
    assert.equal(source.sizeBytes, statSync(path('qcow2')).size);
  });
});

describe('a hostile disk image', {
  skip: missing === '' ? false : `not installed: ${missing}`,
}, () => {
  const cases: Record<string, (file: string) => RegExp> = {
    'a qcow2 over another file': (file) => {
      qemuImg('create', '-f', 'qcow2', '-u', '-b', '/etc/passwd', '-F', 'raw', file, '1M');
      return /has a backing file/;
    },
    'a qcow2 whose data is another file': (file) => {
      qemuImg('create', '-f', 'qcow2', '-o', `data_file=${path('data')}`, file, '1M');
      return /data in another file/;
    },
    'a qcow2 with a table that is too large': (file) => {
      qemuImg('create', '-f', 'qcow2', file, '1M');
      poke(file, 36, Buffer.from('01ffffff', 'hex'));
      return /table that is too large/;
    },
    'a qcow2 that is encrypted': (file) => {
      qemuImg('create', '-f', 'qcow2', file, '1M');
      poke(file, 32, Buffer.from('00000002', 'hex'));
      return /is encrypted/;
    },
    'a qcow2 of an absurd size': (file) => {
      qemuImg('create', '-f', 'qcow2', file, '1P');
      return /at most 67108864 are taken/;
    },
    'a qcow2 whose table lies elsewhere': (file) => {
      qemuImg('create', '-f', 'qcow2', file, '1M');
      poke(file, 40, u64(2n ** 62n, 'BE'));
      return /qemu-img cannot read disk as qcow2/;
    },
    ...Object.fromEntries(
      (['qcow2', 'vmdk', 'vdi', 'vhdx', 'vpc'] as const).map((format) => [
        `a ${format} that ends early`,
        (file: string) => {
          qemuImg('convert', '-f', 'raw', '-O', format, plain, file);
          truncateSync(file, Math.floor(statSync(file).size * 0.6));
          return new RegExp(`cannot read disk as ${format}|has \\d+ of its`);
        },
      ]),
    ),
    'a vmdk that only names files': (file) => {
      const lines = ['# Disk DescriptorFile', 'version=1', 'CID=fffffffe', 'parentCID=ffffffff'];
      lines.push('createType="monolithicFlat"', 'RW 8 FLAT "/etc/passwd" 0', '');
      writeFileSync(file, lines.join('\n').padEnd(1024, '\n'));
      return /only names other files/;
    },
    'a vmdk whose descriptor inside names files': (file) => {
      qemuImg('convert', '-f', 'raw', '-O', 'vmdk', plain, file);
      poke(file, 12, u64(0n, 'LE'));
      return /only names other files/;
    },
    'a vdi over another one': (file) => {
      qemuImg('create', '-f', 'vdi', file, '1M');
      poke(file, 0x1b8, randomBytes(16));
      return /has a parent image/;
    },
    'something that is called a qcow2': (file) => {
      writeFileSync(file, randomBytes(10_000));
      return /is no qcow2/;
    },
  };
  for (const [name, make] of Object.entries(cases)) {
    test(`is refused: ${name}`, async () => {
      const file = path('hostile');
      rmSync(file, { force: true });
      const reason = make(file);
      const said = name.includes('called') ? { format: 'qcow2' as const } : {};
      await assert.rejects(import_(file, said), (thrown) => {
        assert.ok(thrown instanceof Error);
        assert.match(thrown.message, reason);
        return isFailure(thrown, 'source-unsupported') || isFailure(thrown, 'request-too-large');
      });
      assert.deepEqual(readdirSync(spoolFolder), []);
    });
  }

  test('finds no other file, no network and no way to write in the sandbox', async () => {
    const words = async (script: string): Promise<string> => {
      const end = await runInSandbox({
        tool: 'sh',
        packageName: 'dash',
        argv: ({ input, output }) => ['-c', script, 'sh', input, output],
        inputPath: plain,
        outputFolder: spoolFolder,
        limits: SMALL_TOOL_LIMITS,
        signal: never,
      });
      assert.equal(end.isIsolated, true);
      return end.stdout + end.stderr;
    };
    assert.match(await words('cat /etc/passwd'), /No such file/);
    assert.match(await words(`cat ${plain}`), /No such file/);
    assert.match(await words(': > /usr/bin/evil'), /Read-only|Permission/);
    assert.match(await words(': > "$1"'), /Read-only|Permission/);
    assert.equal(await words('wc -c < "$1"'), `${SIZE_BYTES}\n`);
    assert.equal(await words('cat /sys/class/net/*/address /proc/*/status 2>/dev/null; true'), '');
    assert.equal(await words('ulimit -n; ulimit -c'), '64\n0\n');
    assert.match(await words('head -c 2000000 "$1" > "$2/large"'), /File size|too large/i);
    rmSync(join(spoolFolder, 'large'), { force: true });
  });

  test('needs a tool that is there', async () => {
    const run = runInSandbox({
      tool: 'no-such-tool',
      packageName: 'no-package',
      argv: () => [],
      inputPath: plain,
      outputFolder: spoolFolder,
      limits: SMALL_TOOL_LIMITS,
      signal: never,
    });
    await assert.rejects(
      run,
      (thrown) =>
        isFailure(thrown, 'tool-missing') &&
        thrown.message === 'no-such-tool is not installed (Debian package no-package)',
    );
  });

  test('is converted with limits alone where there are no namespaces', () => {
    // In this namespace nobody may make another one.
    const script = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"';
    const module = join(import.meta.dirname, '../../src/capture/adapters/open-image-file.ts');
    const code = `
      import { openReceivedFile } from ${JSON.stringify(module)};
      const [path, spoolFolder] = process.argv.slice(1);
      const signal = new AbortController().signal;
      await using source = await openReceivedFile(path, { name: 'disk', freeSpace: 'keep', spoolFolder, signal });
      const pass = await source.pass('frozen');
      await pass.end();
      console.log(source.sizeBytes, source.notices().some((n) => n.startsWith('qemu-img ran without')));`;
    const node = [process.execPath, '--disable-warning=ExperimentalWarning', '--input-type=module'];
    const argv = [...node, '-e', code, path('qcow2'), spoolFolder];
    const unshare = ['--user', '--map-root-user', 'sh', '-c', script, 'sh', ...argv];
    const { stdout, stderr } = spawnSync('unshare', unshare, { encoding: 'utf8' });
    assert.equal(stdout, `${SIZE_BYTES} true\n`, stderr);
  });

  test('that never ends is ended, with all that it began', async () => {
    const abort = new AbortController();
    const run = (limits = SMALL_TOOL_LIMITS): Promise<unknown> =>
      runInSandbox({
        tool: 'sh',
        packageName: 'dash',
        argv: () => ['-c', 'sleep 600 & echo begun; wait'],
        inputPath: plain,
        outputFolder: spoolFolder,
        limits,
        signal: abort.signal,
        onStdout: () => abort.abort(new Error('enough')),
      });
    await assert.rejects(run(), /enough/);
    assert.deepEqual(readdirSync(spoolFolder), []);
  });
});
