import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { isId, MIB } from '../../src/base/index.ts';
import { runCli } from '../fakes/cli-run.ts';
import { startMemoryDaemon } from '../fakes/memory-daemon.ts';
import { ingot, startIngot } from './ingot-command.ts';
import {
  differences,
  type LoopFilesystem,
  loopFilesystem,
  run,
  treeOf,
} from './loop-filesystem.ts';
import { sshDaemonIsMissing, startSshDaemon } from './ssh-daemon.ts';

const SIZE_MIB = 200;

/** A machine with an identity of its own, in a filesystem that is much too large for it. */
function machine(): LoopFilesystem {
  const disk = loopFilesystem({ sizeMiB: SIZE_MIB });
  for (const folder of ['etc/ssh', 'opt'])
    mkdirSync(join(disk.mountPoint, folder), { recursive: true });
  writeFileSync(join(disk.mountPoint, 'etc/machine-id'), 'one of a kind\n');
  writeFileSync(join(disk.mountPoint, 'etc/ssh/ssh_host_rsa_key'), 'secret of one machine');
  for (let i = 0; i < 20; i++)
    writeFileSync(join(disk.mountPoint, `opt/${i}`), randomBytes(40_000));
  return disk;
}

/** Checks an image in a file: small, clean, all files but the traces. */
function checkEdited(disk: LoopFilesystem, image: string): void {
  assert.ok(statSync(image).size < (SIZE_MIB / 2) * MIB, `${statSync(image).size} bytes`);
  run('e2fsck', '-fn', image);
  const copy = disk.mountImage(image, 'loop,ro');
  assert.deepEqual(differences(treeOf(disk.mountPoint), treeOf(copy)), [
    '/etc/machine-id',
    '/etc/ssh/ssh_host_rsa_key',
  ]);
  assert.equal(readFileSync(join(copy, 'etc/machine-id'), 'utf8'), '');
  disk.unmountImages();
  // Neither the file nor the bytes of what was removed came along.
  assert.equal(readFileSync(image).includes('secret of one machine'), false);
}

const EDITS = ['--generalize', '--shrink'];

describe('a capture that is edited on its way', () => {
  test('into a file: the machine keeps its traces, the image is small and has none', async () => {
    using disk = machine();
    const folder = join(disk.scratch, 'output');
    mkdirSync(folder);
    const image = join(folder, 'golden.img');
    const words = ['snapshot', 'dump', '--source', disk.mountPoint, ...EDITS];
    const { status, stderr } = await ingot(...words, '-o', image, '--json');
    assert.equal(status, 0, stderr);
    assert.match(stderr, /remove \/etc\/ssh\/ssh_host_rsa_key/);
    assert.match(stderr, /empty {2}\/etc\/machine-id/);
    assert.match(stderr, /The image has [0-9.]+ MiB now/);
    const { capture } = JSON.parse(stderr.trim().split('\n').at(-1) ?? '');
    assert.equal(capture.consistency, 'frozen');
    assert.equal(capture.source, disk.mountPoint);
    checkEdited(disk, image);
    assert.deepEqual(readdirSync(folder), ['golden.img'], 'the copy that was edited is gone');
  });

  test('into a pipe, compressed after the edits', async () => {
    using disk = machine();
    const coded = join(disk.scratch, 'golden.gz');
    const fd = openSync(coded, 'w');
    const words = ['snapshot', 'dump', '--source', disk.mountPoint, ...EDITS, '-C', 'gzip'];
    const { status, stderr } = await startIngot(words, { stdout: fd }).ended;
    closeSync(fd);
    assert.equal(status, 0, stderr);
    const image = join(disk.scratch, 'golden.img');
    run('sh', '-c', 'gzip -dc < "$0" > "$1"', coded, image);
    checkEdited(disk, image);
  });

  test('is refused before it freezes: what cannot be edited, a copy on what would freeze', async () => {
    using disk = machine();
    using other = loopFilesystem({ kind: 'xfs', sizeMiB: 320 });
    const image = join(disk.scratch, 'a.img');
    const dump = ['snapshot', 'dump', '-o', image, '--source'];
    for (const edit of EDITS) {
      const { status, stderr } = await ingot(...dump, other.mountPoint, edit);
      assert.equal(status, 43, stderr);
      assert.match(stderr, /xfs/);
    }
    const words = ['snapshot', 'dump', '--source', disk.mountPoint, '--shrink', '-o', '-'];
    const env = { TMPDIR: disk.mountPoint };
    const { status, stderr } = await startIngot(words, { env }).ended;
    assert.equal(status, 49, stderr);
  });

  test('over ssh: into a file by pull, into the library by pull and by import', {
    skip: sshDaemonIsMissing() ?? false,
  }, async () => {
    using disk = machine();
    await using device = await startSshDaemon();
    await using library = await startMemoryDaemon();
    const from = ['ssh://root-device', '-S', '-F', '-S', device.config];
    const source = ['--source', disk.mountPoint, ...EDITS];
    const image = join(disk.scratch, 'golden.img');
    const pulled = await ingot('snapshot', 'pull', ...from, ...source, '-o', image);
    assert.equal(pulled.status, 0, pulled.stderr);
    checkEdited(disk, image);
    for (const command of [
      ['snapshot', 'pull'],
      ['images', 'import'],
    ]) {
      const argv = [...command, ...from, ...source, '--name', 'golden'];
      const { status, stdout, stderr } = await runCli(argv, library.env);
      assert.equal(status, 0, stderr);
      const id = stdout.trim();
      assert.ok(isId('img', id), stdout);
      const stored = library.backend.stored.get(id);
      assert.equal(stored?.image.capture.consistency, 'frozen');
      assert.equal(stored?.image.kind, 'snapshot');
      writeFileSync(image, stored?.plain ?? '');
      checkEdited(disk, image);
    }
  });
});
