import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, describe, test } from 'node:test';
import { FAILURES, type Id, MIB } from '../../src/base/index.ts';
import { runCli } from '../fakes/cli-run.ts';
import { startMemoryDaemon } from '../fakes/memory-daemon.ts';
import { eventually } from './ingot-command.ts';
import { type LoopFilesystem, loopFilesystem, run } from './loop-filesystem.ts';

type Kind = 'xfs' | 'btrfs';

/** XFS would be larger, were it not told that nobody will use it. */
const SIZE_MIB = { xfs: 64, btrfs: 128 };
const MKFS = { xfs: ['--unsupported'], btrfs: [] };
const SECRET = 'the key of one machine only';
const PROGRAM = join(
  import.meta.dirname,
  '../../src/publish/generalize/adapters/mounted-editor-process.ts',
);

const folder = mkdtempSync(join(tmpdir(), 'ingot-general-'));
const daemon = await startMemoryDaemon();
const { backend, env } = daemon;
after(async () => {
  rmSync(folder, { recursive: true });
  await daemon[Symbol.asyncDispose]();
});

const GONE = [
  'etc/ssh/ssh_host_ed25519_key',
  'root/.bash_history',
  'var/lib/cloud/instances/i-1/user-data',
  'var/log/syslog.1',
  'tmp/a "quoted" name\nand a line',
];
const EMPTIED = ['etc/machine-id', 'var/log/auth.log'];

function fill(root: string): void {
  for (const path of [...GONE, ...EMPTIED]) {
    mkdirSync(join(root, dirname(path)), { recursive: true });
    writeFileSync(join(root, path), `${SECRET}\n`.repeat(400));
  }
  writeFileSync(join(root, 'etc/hostname'), 'golden');
}

/** Unmounts and gives what is on the disk. */
function takeImage(loop: LoopFilesystem): Buffer {
  run('umount', loop.mountPoint);
  return readFileSync(loop.image);
}

const generalize = (...argv: string[]) =>
  runCli(['images', 'generalize', '--spool', folder, ...argv], env);

/** Mounts a result where only this process looks, for as long as `work` runs. */
function withResult(id: string, options: string, work: (root: string) => void): void {
  const stored = backend.stored.get(id.trim() as Id<'img'>);
  assert.ok(stored !== undefined, id);
  const path = join(folder, 'result');
  writeFileSync(path, stored.plain);
  const root = mkdtempSync(join(folder, 'result-'));
  run('mount', '-o', options, path, root);
  try {
    work(root);
  } finally {
    run('umount', root);
  }
}

const CHECK: Readonly<Record<Kind, readonly [string, ...string[]]>> = {
  xfs: ['xfs_repair', '-n', '-f'],
  btrfs: ['btrfs', 'check'],
};

describe('generalizing images of XFS and btrfs', () => {
  for (const kind of ['xfs', 'btrfs'] as const) {
    test(`${kind}: traces are gone, whatever their names; all else stays`, async () => {
      using loop = loopFilesystem({ kind, sizeMiB: SIZE_MIB[kind], mkfsOptions: MKFS[kind] });
      fill(loop.mountPoint);
      const { id } = backend.add(takeImage(loop));
      const { status, stdout, stderr } = await generalize(id, '--name', 'golden');
      assert.equal(status, 0, stderr);
      assert.match(stderr, /^remove \/tmp\/a "quoted" name\\x0aand a line /m);
      const stored = backend.stored.get(stdout.trim() as Id<'img'>);
      assert.ok(stored !== undefined && !stored.plain.includes(SECRET), 'a removed file is there');
      withResult(stdout, 'loop,ro', (root) => {
        for (const gone of [...GONE, 'var/lib/cloud/instances']) {
          assert.throws(() => readFileSync(join(root, gone)), { code: 'ENOENT' }, gone);
        }
        for (const emptied of EMPTIED) assert.equal(readFileSync(join(root, emptied)).length, 0);
        assert.equal(readFileSync(join(root, 'etc/hostname'), 'utf8'), 'golden');
      });
      const [checker, ...options] = CHECK[kind];
      run(checker, ...options, join(folder, 'result'));
      assert.deepEqual(
        readdirSync(folder).filter((name) => name.startsWith('ingot-')),
        [],
      );
    });

    test(`${kind}: links of a hostile image lead nowhere outside of it`, async () => {
      using loop = loopFilesystem({ kind, sizeMiB: SIZE_MIB[kind], mkfsOptions: MKFS[kind] });
      const host = mkdtempSync(join(folder, 'host-'));
      const hostFiles = ['machine-id', 'ssh/ssh_host_rsa_key', 'cloud/x', 'auth.log', 'syslog.1'];
      for (const path of hostFiles) {
        mkdirSync(join(host, dirname(path)), { recursive: true });
        writeFileSync(join(host, path), 'of the host');
      }
      const root = loop.mountPoint;
      for (const path of ['etc', 'var/lib', 'root'])
        mkdirSync(join(root, path), { recursive: true });
      symlinkSync(join(host, 'machine-id'), join(root, 'etc/machine-id'));
      symlinkSync(join(host, 'ssh'), join(root, 'etc/ssh'));
      symlinkSync(join(host, 'cloud'), join(root, 'var/lib/cloud'));
      symlinkSync(host, join(root, 'var/log'));
      symlinkSync(join(host, 'auth.log'), join(root, 'root/.bash_history'));
      symlinkSync('../../../../../../../..', join(root, 'tmp'));
      const { id } = backend.add(takeImage(loop));
      const { status, stdout, stderr } = await generalize(id, '--name', 'golden');
      assert.equal(status, 0, stderr);
      for (const path of hostFiles) {
        assert.equal(readFileSync(join(host, path), 'utf8'), 'of the host', path);
      }
      withResult(stdout, 'loop,ro', (result) => {
        assert.equal(readlinkSync(join(result, 'var/log')), host);
        assert.throws(() => readlinkSync(join(result, 'root/.bash_history')), { code: 'ENOENT' });
      });
    });
  }

  test('btrfs: the system in a subvolume and what it mounts are found', async () => {
    using loop = loopFilesystem({ kind: 'btrfs', sizeMiB: 128 });
    const at = (path: string): string => join(loop.mountPoint, path);
    for (const name of ['@', '@home', '@logs']) run('btrfs', 'subvolume', 'create', at(name));
    mkdirSync(at('@/etc'));
    mkdirSync(at('@home/ann'));
    writeFileSync(at('@/etc/machine-id'), SECRET);
    writeFileSync(at('@home/ann/.bash_history'), SECRET);
    writeFileSync(at('@logs/auth.log'), SECRET);
    const mounts = [
      'UUID=1 / btrfs defaults,subvol=@ 0 0',
      'UUID=1 /home btrfs subvol=/@home,noatime 0 0',
      'UUID=1 /var/log/ btrfs subvol=@logs 0 0',
      '#UUID=1 /root btrfs subvol=@ 0 0',
    ];
    writeFileSync(at('@/etc/fstab'), mounts.join('\n'));
    const { id } = backend.add(takeImage(loop));
    const { status, stdout, stderr } = await generalize(id, '--name', 'golden');
    assert.equal(status, 0, stderr);
    withResult(stdout, 'loop,ro,subvolid=5', (root) => {
      assert.equal(readFileSync(join(root, '@/etc/machine-id')).length, 0);
      assert.equal(readFileSync(join(root, '@logs/auth.log')).length, 0);
      assert.deepEqual(readdirSync(join(root, '@home/ann')), []);
    });
  });

  test('btrfs: a system in a default subvolume, with subvolumes in another one (openSUSE)', async () => {
    using loop = loopFilesystem({ kind: 'btrfs', sizeMiB: 128 });
    const at = (path: string): string => join(loop.mountPoint, path);
    for (const name of ['@', '@/var', '@/root', '@/home', '@/srv', '@/.snapshots']) {
      run('btrfs', 'subvolume', 'create', at(name));
    }
    mkdirSync(at('@/.snapshots/1'));
    const system = '@/.snapshots/1/snapshot';
    run('btrfs', 'subvolume', 'create', at(system));
    for (const name of ['etc/ssh', 'var', 'root', 'home', 'srv', '.snapshots']) {
      mkdirSync(at(`${system}/${name}`), { recursive: true });
    }
    mkdirSync(at('@/var/log'));
    mkdirSync(at('@/home/ann'));
    const emptied = [`${system}/etc/machine-id`, '@/var/log/auth.log'];
    const gone = [
      `${system}/etc/ssh/ssh_host_rsa_key`,
      '@/root/.bash_history',
      '@/home/ann/.bash_history',
      '@/var/log/messages-20260101.xz',
    ];
    const kept = [`${system}/etc/os-release`, '@/srv/page'];
    for (const path of [...emptied, ...gone, ...kept]) writeFileSync(at(path), SECRET);
    const mounts = ['var', 'root', 'home', 'srv', '.snapshots'].map(
      (name) => `UUID=1 /${name} btrfs subvol=/@/${name} 0 0`,
    );
    const fstab = ['UUID=1 / btrfs defaults 0 0', ...mounts].join('\n');
    writeFileSync(at(`${system}/etc/fstab`), fstab);
    run('btrfs', 'subvolume', 'set-default', at(system));
    const { id } = backend.add(takeImage(loop));
    const { status, stdout, stderr } = await generalize(id, '--name', 'golden');
    assert.equal(status, 0, stderr);
    assert.match(stderr, /^empty {2}\/@\/\.snapshots\/1\/snapshot\/etc\/machine-id /m);
    withResult(stdout, 'loop,ro,subvolid=5', (root) => {
      for (const path of emptied) assert.equal(readFileSync(join(root, path)).length, 0, path);
      for (const path of kept) assert.equal(readFileSync(join(root, path), 'utf8'), SECRET, path);
      for (const path of gone) {
        assert.throws(() => readFileSync(join(root, path)), { code: 'ENOENT' }, path);
      }
    });
    withResult(stdout, 'loop,ro', (root) => {
      assert.equal(readFileSync(join(root, 'etc/machine-id')).length, 0);
    });
  });

  test('XFS in a partition, with a log that was not replayed, is generalized too', async () => {
    using loop = loopFilesystem({ kind: 'xfs', sizeMiB: 64, mkfsOptions: MKFS.xfs });
    fill(loop.mountPoint);
    run('sync', '--file-system', loop.mountPoint);
    run('xfs_io', '-x', '-c', 'shutdown', loop.mountPoint);
    const disk = join(loop.scratch, 'disk');
    run('truncate', '-s', '70M', disk);
    spawnSync('sfdisk', ['--quiet', disk], { input: 'label: gpt\nstart=4096,size=131072\n' });
    const bytes = readFileSync(disk);
    takeImage(loop).copy(bytes, 2 * MIB);
    const { id } = backend.add(bytes);
    const { status, stdout, stderr } = await generalize(id, '--name', 'golden', '--quiet');
    assert.equal(status, 0, stderr);
    assert.equal(stderr, '');
    withResult(stdout, `loop,ro,offset=${2 * MIB},sizelimit=${64 * MIB}`, (root) => {
      assert.equal(readFileSync(join(root, 'etc/machine-id')).length, 0);
      assert.throws(() => readFileSync(join(root, 'root/.bash_history')), { code: 'ENOENT' });
    });
  });

  test('a damaged filesystem that the kernel refuses is refused', async () => {
    using loop = loopFilesystem({ kind: 'xfs', sizeMiB: 64, mkfsOptions: MKFS.xfs });
    fill(loop.mountPoint);
    const image = takeImage(loop);
    // The counters of all groups: our reader needs none of them, the kernel does.
    for (let at = 512; at < image.length; at += 16 * MIB) image.fill(0xff, at, at + 512);
    const { id } = backend.add(image);
    const { status } = await generalize(id, '--name', 'golden', '--quiet');
    assert.equal(status, FAILURES['filesystem-malformed'].exit);
    assert.deepEqual(
      readdirSync(folder).filter((name) => name.startsWith('ingot-')),
      [],
    );
  });

  for (const [how, end] of [
    ['whose parent is gone', 'stdin'],
    ['that is killed', 'SIGKILL'],
  ] as const) {
    test(`an editor ${how} leaves no mount and no loop device`, async () => {
      using loop = loopFilesystem({ kind: 'xfs', sizeMiB: 64, mkfsOptions: MKFS.xfs });
      run('umount', loop.mountPoint);
      const mountPoint = mkdtempSync(join(folder, 'mounted-'));
      const program = [process.execPath, '--disable-warning=ExperimentalWarning', PROGRAM];
      const child = spawn('unshare', ['--mount', '--propagation', 'private', ...program], {
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      const request = { file: loop.image, offsetBytes: 0, sizeBytes: 64 * MIB, mountPoint };
      const outer = { filesystem: 'xfs', outerNamespace: readlinkSync('/proc/self/ns/mnt') };
      child.stdin.write(`${JSON.stringify({ ...request, ...outer })}\n`);
      const [line] = await once(createInterface({ input: child.stdout }), 'line');
      assert.equal(line, '{"state":"mounted"}');
      assert.notEqual(
        run('losetup', '-j', loop.image),
        '',
        'nothing is mounted, nothing is tested',
      );
      assert.equal(readdirSync(mountPoint).length, 0);
      if (end === 'stdin') child.stdin.end();
      else child.kill('SIGKILL');
      await once(child, 'close');
      await eventually('the end of the loop device', () =>
        run('losetup', '-j', loop.image) === '' ? true : undefined,
      );
    });
  }
});
