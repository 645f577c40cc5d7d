import assert from 'node:assert/strict';
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, before, describe, test } from 'node:test';
import { FAILURES, type FailureCode, MIB } from '../../src/base/index.ts';
import { runCli } from '../fakes/cli-run.ts';
import { startMemoryDaemon } from '../fakes/memory-daemon.ts';
import { missingTools, run } from './disk-image.ts';

const missing = missingTools('mke2fs', 'sfdisk').join(', ');
const folder = mkdtempSync(join(tmpdir(), 'ingot-files-'));
const daemon = await startMemoryDaemon();
const { backend, env } = daemon;
after(async () => {
  rmSync(folder, { recursive: true });
  await daemon[Symbol.asyncDispose]();
});

const STATUS = `Package: bash
Status: install ok installed
Architecture: amd64
Version: 5.2.15-2
Description: a shell
 with lines

Package: gone
Status: deinstall ok config-files
Version: 1.0

Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9
`;

function makeTrees(): void {
  const old = join(folder, 'old');
  mkdirSync(join(old, 'etc'), { recursive: true });
  mkdirSync(join(old, 'var/lib/dpkg'), { recursive: true });
  mkdirSync(join(old, 'usr/share/old docs'), { recursive: true });
  writeFileSync(join(old, 'var/lib/dpkg/status'), STATUS);
  writeFileSync(join(old, 'etc/hostname'), 'golden\n');
  writeFileSync(join(old, 'etc/same'), 'same');
  writeFileSync(join(old, 'etc/sized'), 'aaaa');
  writeFileSync(join(old, 'etc/secret'), 'secret');
  writeFileSync(join(old, 'usr/share/old docs/readme'), 'x'.repeat(2000));
  writeFileSync(join(old, 'large'), Buffer.alloc(2 * MIB, 'large '));
  symlinkSync('../etc/hostname', join(old, 'usr/name'));
  symlinkSync('/etc', join(old, 'usr/config'));
  symlinkSync('loop', join(old, 'loop'));
  symlinkSync('same', join(old, 'etc/link'));
  writeFileSync(join(old, 'etc/evil\u001b[31m\nname'), '');
  writeFileSync(Buffer.concat([Buffer.from(join(old, 'etc/bytes-')), Buffer.from([0xff])]), '');
  const now = join(folder, 'new');
  cpSync(old, now, { recursive: true, verbatimSymlinks: true });
  const upgraded = STATUS.replace('2.36-9', '2.36-10').replace('Package: bash', 'Package: dash');
  writeFileSync(join(now, 'var/lib/dpkg/status'), upgraded);
  writeFileSync(join(now, 'etc/hostname'), 'clone number two\n');
  writeFileSync(join(now, 'etc/sized'), 'aaab');
  chmodSync(join(now, 'etc/secret'), 0o600);
  rmSync(join(now, 'usr/share/old docs'), { recursive: true });
  mkdirSync(join(now, 'usr/share/new'));
  writeFileSync(join(now, 'usr/share/new/readme'), 'y');
  unlinkSync(join(now, 'etc/link'));
  symlinkSync('sized', join(now, 'etc/link'));
}

/** A GPT disk with an empty first partition and a filesystem on the second. */
function partitioned(filesystem: Buffer): Buffer {
  const path = join(folder, 'disk');
  writeFileSync(path, '');
  truncateSync(path, 20 * MIB);
  run('sfdisk', ['--quiet', path], 'label: gpt\nstart=2048,size=2048\nstart=4096,size=32768\n');
  const disk = readFileSync(path);
  filesystem.copy(disk, 2 * MIB);
  return disk;
}

describe('files of images', { skip: missing === '' ? false : `not installed: ${missing}` }, () => {
  let oldId: string;
  let newId: string;
  let diskId: string;
  let emptyId: string;

  before(() => {
    makeTrees();
    for (const name of ['old', 'new']) {
      const image = join(folder, `${name}.img`);
      run('mke2fs', ['-q', '-F', '-t', 'ext4', '-d', join(folder, name), image, '16M']);
    }
    const old = readFileSync(join(folder, 'old.img'));
    oldId = backend.add(old).id;
    newId = backend.add(readFileSync(join(folder, 'new.img'))).id;
    diskId = backend.add(partitioned(old)).id;
    emptyId = backend.add(Buffer.alloc(MIB, 'no filesystem')).id;
  });

  const images = (...argv: string[]) => runCli(['images', ...argv], env);
  const lines = (text: string): string[] => text.split('\n').slice(0, -1);

  async function fails(code: FailureCode, ...argv: string[]): Promise<string> {
    const { status, stderr } = await images(...argv);
    assert.equal(status, FAILURES[code].exit, stderr);
    return stderr;
  }

  test('ls lists a directory by name, and nothing in a name commands the terminal', async () => {
    const { stdout, stderr } = await images('ls', `${oldId}:/etc`);
    assert.equal(stderr, '');
    assert.deepEqual(lines(stdout), [
      'bytes-\\xff',
      'evil\\x1b[31m\\x0aname',
      'hostname',
      'link',
      'same',
      'secret',
      'sized',
    ]);
  });

  test('ls -l shows kinds, sizes and where links lead', async () => {
    const { stdout } = await images('ls', '-l', `${oldId}:/usr`);
    const [config, name, share] = lines(stdout);
    assert.match(config ?? '', /^lrwxrwxrwx .* config -> \/etc$/);
    assert.match(name ?? '', /^lrwxrwxrwx .* name -> \.\.\/etc\/hostname$/);
    assert.match(share ?? '', /^drwxr-xr-x .* share$/);
    const file = await images('ls', '-l', `${oldId}:/etc/hostname`);
    assert.match(file.stdout, /^-rw-r--r-- +0 +0 +7 \d{4}-\d\d-\d\d \d\d:\d\d \/etc\/hostname$/m);
  });

  test('ls -R --json lists everything below, with the exact bytes of odd names', async () => {
    const { stdout } = await images('ls', '-R', '--json', `${oldId}:/`);
    const files = lines(stdout).map((line) => JSON.parse(line));
    assert.equal(files.length, 21);
    const odd = files.find(({ path_hex }) => path_hex !== undefined);
    assert.equal(Buffer.from(odd.path_hex, 'hex').toString('latin1'), 'etc/bytes-\xff');
    assert.equal(files.find(({ path }) => path === 'large').size, 2 * MIB);
  });

  test('cat gives the bytes of files, through links and out of partitions', async () => {
    for (const path of [
      `${oldId}:/etc/hostname`,
      `${oldId}:/usr/name`,
      `${oldId}:usr/config/hostname`,
      `${diskId}:/etc/hostname`,
      `${diskId}:2:/usr/../usr/name`,
    ]) {
      const { status, stdout, stderr } = await images('cat', path);
      assert.deepEqual({ status, stdout, stderr }, { status: 0, stdout: 'golden\n', stderr: '' });
    }
    const large = await images('cat', `${diskId}:/large`);
    assert.equal(large.stdout, Buffer.alloc(2 * MIB, 'large ').toString());
  });

  test('what cannot be found or read is said', async () => {
    await fails('file-not-found', 'cat', `${oldId}:/absent`);
    await fails('file-not-found', 'cat', `${oldId}:/etc/hostname/below`);
    await fails('file-not-found', 'ls', `${oldId}:/etc/hostname/`);
    await fails('path-refused', 'cat', `${oldId}:/loop`);
    await fails('path-refused', 'cat', `${oldId}:/etc`);
    await fails('image-not-found', 'ls', 'img-zzzzz:/');
    await fails('source-unsupported', 'ls', emptyId);
    const stderr = await fails('file-not-found', 'ls', `${diskId}:7:/`);
    assert.match(stderr, /no partition 7: 1 \(unknown\), 2 \(ext\)/);
  });

  test('diff shows packages, then files, with sizes and what changed', async () => {
    const { status, stdout, stderr } = await images('diff', oldId, `${newId}`);
    assert.equal(status, 0, stderr);
    assert.deepEqual(lines(stdout), [
      '- dpkg bash 5.2.15-2',
      '+ dpkg dash 5.2.15-2',
      '~ dpkg libc6 2.36-9 -> 2.36-10',
      '~ /etc/hostname (7 B -> 17 B; content)',
      '~ /etc/link (target)',
      '~ /etc/secret (permissions)',
      '~ /etc/sized (4 B -> 4 B; content)',
      '+ /usr/share/new/',
      '+ /usr/share/new/readme (1 B)',
      '- /usr/share/old docs/',
      '- /usr/share/old docs/readme (2.0 KiB)',
      '~ /var/lib/dpkg/status (257 B -> 258 B; content)',
    ]);
    assert.equal(stderr, '2 added, 2 removed, 5 changed\n');
  });

  test('diff of an image and the same files in a partition finds nothing', async () => {
    const { status, stdout } = await images('diff', '--json', oldId, `${diskId}:2`);
    assert.equal(status, 0);
    assert.equal(stdout, '');
  });

  test('files of other filesystems are read and compared alike', async (t) => {
    const tools = missingTools('mkfs.btrfs').join(', ');
    if (tools !== '') {
      t.skip(`not installed: ${tools}`);
      return;
    }
    const image = join(folder, 'old.btrfs');
    writeFileSync(image, '');
    truncateSync(image, 128 * MIB);
    run('mkfs.btrfs', ['-q', '--rootdir', join(folder, 'old'), image]);
    const { id } = backend.add(readFileSync(image));
    const { stdout } = await images('cat', `${id}:/usr/config/hostname`);
    assert.equal(stdout, 'golden\n');
    const diff = await images('diff', oldId, id);
    assert.deepEqual(lines(diff.stdout), ['- /lost+found/'], diff.stderr);
  });

  test('packages that rpm has installed are compared', async (t) => {
    const tools = missingTools('rpm', 'rpmbuild').join(', ');
    if (tools !== '') {
      t.skip(`not installed: ${tools}`);
      return;
    }
    const build = (...specs: readonly string[]): string => {
      const top = mkdtempSync(join(folder, 'rpm-'));
      for (const spec of specs) {
        const [name, version, epoch] = spec.split(' ');
        const file = join(top, `${name}.spec`);
        const lines = [`Name: ${name}`, `Version: ${version}`, 'Release: 1', 'License: x'];
        if (epoch !== undefined) lines.push(`Epoch: ${epoch}`);
        lines.push('Summary: x', 'BuildArch: noarch', '%description', 'x', '%files', '');
        writeFileSync(file, lines.join('\n'));
        run('rpmbuild', ['-bb', '--quiet', '--define', `_topdir ${top}/build`, file]);
        const built = join(top, `build/RPMS/noarch/${name}-${version}-1.noarch.rpm`);
        const root = join(top, 'root');
        run('rpm', [
          '--root',
          root,
          '--define',
          '_dbpath /var/lib/rpm',
          '--define',
          '_db_backend sqlite',
          '-i',
          '--justdb',
          '--nodeps',
          '--force',
          built,
        ]);
      }
      const image = join(top, 'image');
      run('mke2fs', ['-q', '-F', '-t', 'ext4', '-d', join(top, 'root'), image, '16M']);
      return backend.add(readFileSync(image)).id;
    };
    const before = build('bash 5.1', 'kernel 6.1', 'gone 1', 'kernel 6.2');
    const after = build('bash 5.2', 'kernel 6.2', 'kernel 6.3', 'openssl 3.0 1');
    const { status, stdout, stderr } = await images('diff', '--packages', before, after);
    assert.equal(status, 0, stderr);
    assert.deepEqual(lines(stdout), [
      '~ rpm bash 5.1-1.noarch -> 5.2-1.noarch',
      '- rpm gone 1-1.noarch',
      '~ rpm kernel 6.1-1.noarch, 6.2-1.noarch -> 6.2-1.noarch, 6.3-1.noarch',
      '+ rpm openssl 1:3.0-1.noarch',
    ]);
  });

  test('a database of rpm that is something else is named, and harms nobody', async () => {
    const tree = mkdtempSync(join(folder, 'not-rpm-'));
    mkdirSync(join(tree, 'var/lib/rpm'), { recursive: true });
    const addWith = (name: string, content: Buffer): string => {
      writeFileSync(join(tree, 'var/lib/rpm', name), content);
      const image = join(folder, 'not-rpm.img');
      rmSync(image, { force: true });
      run('mke2fs', ['-q', '-F', '-t', 'ext4', '-d', tree, image, '16M']);
      return backend.add(readFileSync(image)).id;
    };
    const berkeley = addWith('Packages', Buffer.alloc(4096));
    const { stderr } = await images('diff', '--packages', berkeley, berkeley);
    assert.match(stderr, /database of rpm is in a form that is not read/);
    const view = join(folder, 'view.sqlite');
    const endless =
      'WITH RECURSIVE n(blob) AS (SELECT 1 UNION ALL SELECT blob FROM n) SELECT blob FROM n';
    const database = new DatabaseSync(view);
    database.exec(`CREATE VIEW Packages AS ${endless}`);
    database.close();
    for (const content of [readFileSync(view), Buffer.alloc(8192, 'x')]) {
      const id = addWith('rpmdb.sqlite', content);
      await fails('filesystem-malformed', 'diff', '--packages', id, id);
    }
  });
});
