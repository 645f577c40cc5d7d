import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { FAILURES, type Id, isId, MIB } from '../../src/base/index.ts';
import { runCli } from '../fakes/cli-run.ts';
import { startMemoryDaemon } from '../fakes/memory-daemon.ts';
import { missingTools, run } from './disk-image.ts';

const missing = missingTools('mke2fs', 'debugfs', 'e2fsck', 'resize2fs', 'sfdisk').join(', ');
const folder = mkdtempSync(join(tmpdir(), 'ingot-general-'));
const daemon = await startMemoryDaemon();
const { backend, env } = daemon;
after(async () => {
  rmSync(folder, { recursive: true });
  await daemon[Symbol.asyncDispose]();
});

const SECRET = 'the key of one machine only';

/** What must go, and what must stay, in a root filesystem. */
const GONE = [
  'etc/ssh/ssh_host_ed25519_key',
  'etc/ssh/ssh_host_ed25519_key.pub',
  'var/lib/systemd/random-seed',
  'var/lib/cloud/instances/i-123/user-data.txt',
  'var/lib/cloud/data/set-hostname',
  'root/.bash_history',
  'home/ann/.python_history',
  'var/lib/dhcp/dhclient.eth0.leases',
  'var/log/journal/0123/system.journal',
  'var/log/syslog.1',
  'tmp/x/y/z',
] as const;
const EMPTIED = ['etc/machine-id', 'var/log/auth.log', 'var/log/apt/term.log'] as const;
const KEPT = [
  'etc/ssh/sshd_config',
  'etc/hostname',
  'home/ann/.bashrc',
  'var/lib/dhcp/readme',
  'opt/etc/machine-id',
] as const;

function makeRoot(): void {
  for (const path of [...GONE, ...EMPTIED, ...KEPT]) {
    mkdirSync(join(folder, 'root', dirname(path)), { recursive: true });
    writeFileSync(join(folder, 'root', path), `${SECRET}\n`.repeat(200));
  }
  for (const path of KEPT) writeFileSync(join(folder, 'root', path), `kept ${path}\n`);
  // A folder of so many names has an index.
  for (let i = 0; i < 300; i++) writeFileSync(join(folder, 'root/etc', `setting ${i}.conf`), 'x');
  symlinkSync('/etc/machine-id', join(folder, 'root/var/lib/machine-id'));
  mkdirSync(join(folder, 'root/var/lib/dbus'));
  symlinkSync('/etc/machine-id', join(folder, 'root/var/lib/dbus/machine-id'));
  // A folder that is a link: what it leads to is not touched.
  symlinkSync('/home/ann', join(folder, 'root/home/bob'));
  symlinkSync('/opt', join(folder, 'root/var/tmp'));
}

function isInImage(image: string, offsetBytes: number, path: string): boolean {
  const device = offsetBytes === 0 ? image : `${image}?offset=${offsetBytes}`;
  return run('debugfs', ['-R', `stat "/${path}"`, device]).includes('Inode:');
}

describe('generalizing an image', {
  skip: missing === '' ? false : `not installed: ${missing}`,
}, () => {
  const image = join(folder, 'root.img');
  let id: Id<'img'>;

  before(() => {
    makeRoot();
    const options = ['-q', '-F', '-t', 'ext4', '-b', '1024', '-N', '2000'];
    run('mke2fs', [...options, '-d', join(folder, 'root'), image, '24M']);
    id = backend.add(readFileSync(image), { name: 'web' }).id;
  });

  const generalize = (...argv: string[]) =>
    runCli(['images', 'generalize', '--spool', folder, ...argv], env);

  function resultOf(stdout: string): { readonly path: string; readonly plain: Buffer } {
    const newId = stdout.trim();
    assert.ok(isId('img', newId), stdout);
    const stored = backend.stored.get(newId);
    assert.ok(stored !== undefined);
    assert.equal(stored.image.ancestorId, id);
    const path = join(folder, `${newId}.img`);
    writeFileSync(path, stored.plain);
    return { path, plain: stored.plain };
  }

  function checkFiles(path: string, offsetBytes: number): void {
    for (const gone of [...GONE, 'var/lib/cloud/instances', 'tmp/x', 'var/lib/dbus/machine-id']) {
      assert.ok(!isInImage(path, offsetBytes, gone), `${gone} is gone`);
    }
    const device = offsetBytes === 0 ? path : `${path}?offset=${offsetBytes}`;
    for (const emptied of EMPTIED) {
      assert.match(run('debugfs', ['-R', `stat "/${emptied}"`, device]), /Size: 0$/m, emptied);
    }
    for (const kept of KEPT) {
      assert.equal(run('debugfs', ['-R', `cat "/${kept}"`, device]), `kept ${kept}\n`);
    }
    assert.ok(isInImage(path, offsetBytes, 'var/lib/machine-id'));
    assert.ok(isInImage(path, offsetBytes, 'var/lib/cloud'));
    run('e2fsck', ['-f', '-n', device]);
  }

  test('traces of the machine are gone, also from free space; all else stays', async () => {
    const before = backend.stored.get(id)?.plain;
    const { status, stdout, stderr } = await generalize(id, '--name', 'golden');
    assert.equal(status, 0, stderr);
    const { path, plain } = resultOf(stdout);
    checkFiles(path, 0);
    assert.ok(!plain.includes(SECRET), 'a removed file is still there');
    assert.match(stderr, /^remove \/etc\/ssh\/ssh_host_ed25519_key \(ssh-host-keys, 5\.5 KiB\)$/m);
    assert.match(stderr, /^empty {2}\/etc\/machine-id \(machine-id, 5\.5 KiB\)$/m);
    assert.ok(backend.stored.get(id)?.plain.equals(before ?? Buffer.alloc(0)));
    assert.ok(!readdirSync(folder).some((name) => name.startsWith('ingot-generalize-')));
  });

  test('a filesystem in a partition is generalized too', async () => {
    const disk = join(folder, 'disk');
    writeFileSync(disk, '');
    truncateSync(disk, 28 * MIB);
    run('sfdisk', ['--quiet', disk], 'label: gpt\nstart=4096,size=49152\n');
    const bytes = readFileSync(disk);
    readFileSync(image).copy(bytes, 2 * MIB);
    const own = backend.add(bytes).id;
    const { status, stdout, stderr } = await generalize(own, '--name', 'golden', '--quiet');
    assert.equal(status, 0, stderr);
    assert.equal(stderr, '');
    const stored = backend.stored.get(stdout.trim() as Id<'img'>);
    assert.ok(stored !== undefined);
    const path = join(folder, 'disk.img');
    writeFileSync(path, stored.plain);
    checkFiles(path, 2 * MIB);
    assert.ok(stored.plain.subarray(0, MIB).equals(bytes.subarray(0, MIB)), 'the table is kept');
  });

  test('--keep leaves a kind of traces, and --json tells what was removed', async () => {
    const { status, stdout, stderr } = await generalize(
      ...[id, '--name', 'golden', '--json', '--keep', 'logs', 'histories'],
    );
    assert.equal(status, 0, stderr);
    const { id: newId, removed } = JSON.parse(stdout);
    const { path } = resultOf(newId);
    assert.ok(isInImage(path, 0, 'var/log/syslog.1'));
    assert.ok(isInImage(path, 0, 'root/.bash_history'));
    assert.ok(!isInImage(path, 0, 'tmp/x'));
    assert.ok(removed.every(({ rule }: { rule: string }) => rule !== 'logs'));
  });

  test('--dry-run makes nothing', async () => {
    const images = backend.stored.size;
    const { status, stdout, stderr } = await generalize(id, '--dry-run');
    assert.equal(status, 0);
    assert.equal(stdout, '');
    assert.match(stderr, /^remove \/root\/\.bash_history/m);
    assert.equal(backend.stored.size, images);
  });

  test('--shrink gives an image as large as its files need, with a margin', async () => {
    const large = join(folder, 'large.img');
    run('mke2fs', ['-q', '-F', '-t', 'ext4', '-d', join(folder, 'root'), large, '100M']);
    const own = backend.add(readFileSync(large)).id;
    const { status, stdout, stderr } = await generalize(
      own,
      '--name',
      'small',
      '--shrink',
      '--quiet',
    );
    assert.equal(status, 0, stderr);
    const stored = backend.stored.get(stdout.trim() as Id<'img'>);
    assert.ok(stored !== undefined);
    assert.ok(stored.plain.length > 64 * MIB, 'the margin');
    assert.ok(stored.plain.length < 90 * MIB, `${stored.plain.length} bytes`);
    const path = join(folder, 'small.img');
    writeFileSync(path, stored.plain);
    checkFiles(path, 0);
  });

  test('an import can be generalized and shrunk on its way in, and its file stays as it is', async () => {
    const file = readFileSync(image);
    const { status, stdout, stderr } = await runCli(
      ['images', 'import', image, '--name', 'g', '--generalize', '--shrink', '--spool', folder],
      env,
    );
    assert.equal(status, 0, stderr);
    const stored = backend.stored.get(stdout.trim() as Id<'img'>);
    assert.ok(stored !== undefined);
    const path = join(folder, 'imported.img');
    writeFileSync(path, stored.plain);
    checkFiles(path, 0);
    assert.ok(!stored.plain.includes(SECRET));
    assert.ok(stored.plain.length <= 24 * MIB);
    assert.ok(readFileSync(image).equals(file));
    assert.ok(!readdirSync(folder).some((name) => name.startsWith('ingot-generalize-')));
  });

  test('an image without such a filesystem is refused, and nothing is left behind', async () => {
    const own = backend.add(Buffer.alloc(MIB, 'nothing')).id;
    const { status } = await generalize(own, '--name', 'golden');
    assert.equal(status, FAILURES['source-unsupported'].exit);
    assert.ok(!existsSync(join(folder, 'disk.ingot-part')));
    assert.ok(!readdirSync(folder).some((name) => name.startsWith('ingot-generalize-')));
  });
});
