import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { eventually, ingot, settlesWithin, startIngot, startWriter } from './ingot-command.ts';
import {
  differences,
  type LoopFilesystem,
  type LoopKind,
  loopFilesystem,
  run,
  treeOf,
} from './loop-filesystem.ts';

const FILES = 50;

/** Writes every file anew, each round with other bytes. */
function writeFiles(folder: string, count = FILES): void {
  for (let i = 0; i < count; i += 1) {
    writeFileSync(join(folder, `file-${i}`), randomBytes(20_000 + i * 512));
  }
}

/** What stands in a file system of people: folders, links, odd names, modes. */
function writeTree(folder: string): void {
  mkdirSync(join(folder, 'etc', 'ünïcode folder'), { recursive: true });
  writeFileSync(join(folder, 'etc', 'shadow'), 'root:x', { mode: 0o600 });
  writeFileSync(join(folder, 'etc', 'ünïcode folder', 'a file'), 'text');
  symlinkSync('shadow', join(folder, 'etc', 'link'));
  writeFileSync(join(folder, 'empty'), '');
  writeFiles(folder);
}

/** Dumps to a file and fails the test with what the command said. */
async function dumpTo(output: string, disk: LoopFilesystem, ...options: string[]): Promise<string> {
  const { status, stderr } = await ingot(
    'snapshot',
    'dump',
    '--source',
    disk.mountPoint,
    '-o',
    output,
    ...options,
  );
  assert.equal(status, 0, stderr);
  return stderr;
}

function checkFilesystem(kind: LoopKind, image: string): void {
  if (kind === 'ext4') run('e2fsck', '-fn', image);
  if (kind === 'btrfs') run('btrfs', 'check', '--readonly', image);
}

/** The files in an image, read without the cache of the device that it came from. */
function treeOfImage(disk: LoopFilesystem, kind: LoopKind, image: string): Map<string, string> {
  if (kind === 'ext4') return treeOf(disk.mountImage(image, 'loop,ro,noload'));
  if (kind === 'xfs') {
    // A frozen XFS keeps its log for unlinked files, so the first mount replays it. It refuses a
    // second filesystem of the same UUID unless told otherwise.
    const tree = treeOf(disk.mountImage(image, 'loop,nouuid'));
    disk.unmountImages();
    run('xfs_repair', '-n', '-f', image);
    return tree;
  }
  run('umount', disk.mountPoint);
  try {
    return treeOf(disk.mountImage(image, 'loop,ro'));
  } finally {
    disk.unmountImages();
    run('mount', '-o', 'loop', disk.image, disk.mountPoint);
  }
}

for (const kind of ['ext4', 'xfs', 'btrfs'] as const) {
  describe(`a dump of a mounted ${kind}`, () => {
    test('two dumps of a changing filesystem equal it file by file', async () => {
      using disk = loopFilesystem({ kind, sizeMiB: kind === 'ext4' ? 64 : 320 });
      writeTree(disk.mountPoint);
      // Whatever reads the device through the page cache leaves old data there.
      run('dd', `if=${disk.device}`, 'of=/dev/null', 'bs=1M');
      for (const round of [1, 2]) {
        writeFiles(disk.mountPoint);
        const image = join(disk.scratch, `round-${round}.img`);
        const before = treeOf(disk.mountPoint);
        await dumpTo(image, disk);
        checkFilesystem(kind, image);
        assert.equal(statSync(image).size, statSync(disk.image).size);
        assert.deepEqual(differences(before, treeOfImage(disk, kind, image)), [], `round ${round}`);
      }
    });
  });
}

describe('a dump', () => {
  test('would be wrong through the page cache: the test above can fail', () => {
    using disk = loopFilesystem();
    writeFiles(disk.mountPoint);
    run('sync', '-f', disk.mountPoint);
    run('dd', `if=${disk.device}`, 'of=/dev/null', 'bs=1M');
    writeFiles(disk.mountPoint);
    run('fsfreeze', '-f', disk.mountPoint);
    const image = join(disk.scratch, 'stale.img');
    try {
      run('dd', `if=${disk.device}`, `of=${image}`, 'bs=1M');
    } finally {
      run('fsfreeze', '-u', disk.mountPoint);
    }
    const stale = treeOf(disk.mountImage(image, 'loop,ro,noload'));
    assert.ok(differences(treeOf(disk.mountPoint), stale).length > FILES / 2);
  });

  test('is the same in every compression, to a file and to a pipe', async () => {
    using disk = loopFilesystem({ sizeMiB: 32 });
    writeTree(disk.mountPoint);
    run('umount', disk.mountPoint);
    const plain = join(disk.scratch, 'plain.img');
    const from = ['snapshot', 'dump', '--source', disk.image, '--free-space', 'zero'];
    assert.equal((await ingot(...from, '-o', plain)).status, 0);
    const unpack = { gzip: 'gzip -dc', zstd: 'zstd -dc', lzma: 'xz -dc' };
    for (const [how, command] of Object.entries(unpack)) {
      const coded = join(disk.scratch, `image.${how}`);
      assert.equal((await ingot(...from, '-C', how, '-o', coded)).status, 0);
      run('sh', '-c', `${command} < "$0" | cmp - "$1"`, coded, plain);
      const redirected = join(disk.scratch, `redirected.${how}`);
      const fd = openSync(redirected, 'w');
      assert.equal((await startIngot([...from, '-C', how], { stdout: fd }).ended).status, 0);
      closeSync(fd);
      run('cmp', coded, redirected);
    }
    const entry = join(import.meta.dirname, '../../src/start/cli/main.ts');
    const piped = join(disk.scratch, 'piped.img');
    run(
      'sh',
      '-c',
      '"$0" "$1" snapshot dump --source "$2" --free-space zero --quiet | cat > "$3"',
      process.execPath,
      entry,
      disk.image,
      piped,
    );
    run('cmp', plain, piped);
    assert.ok(statSync(plain).blocks * 512 < statSync(plain).size / 2, 'the image is not sparse');
  });

  test('a redirection begins where the shell left it, and is cut back on failure', async () => {
    using disk = loopFilesystem({ sizeMiB: 16 });
    const path = join(disk.scratch, 'redirected');
    writeFileSync(path, 'old bytes that are longer than nothing');
    const fd = openSync(path, 'r+');
    readSync(fd, Buffer.alloc(9));
    const failing = startIngot(
      ['snapshot', 'dump', '--source', disk.mountPoint, '--max-freeze', '1ms'],
      {
        stdout: fd,
      },
    );
    assert.equal((await failing.ended).status, 48);
    assert.equal(readFileSync(path, 'utf8'), 'old bytes');
    const whole = startIngot(['snapshot', 'dump', '--source', disk.mountPoint], { stdout: fd });
    assert.equal((await whole.ended).status, 0);
    closeSync(fd);
    assert.equal(statSync(path).size, 9 + 16 * 1024 * 1024);
  });

  test('has no trace of what was deleted, unless the exact bytes are asked for', async () => {
    using disk = loopFilesystem();
    const secret = `secret-${randomBytes(8).toString('hex')}`;
    writeFileSync(join(disk.mountPoint, 'secret'), `${secret}\n`.repeat(100_000));
    run('sync', '-f', disk.mountPoint);
    run('rm', join(disk.mountPoint, 'secret'));
    const masked = join(disk.scratch, 'masked.img');
    const verbatim = join(disk.scratch, 'verbatim.img');
    await dumpTo(masked, disk);
    await dumpTo(verbatim, disk, '--verbatim');
    assert.equal(readFileSync(masked).includes(secret), false);
    assert.equal(readFileSync(verbatim).includes(secret), true);
    run('e2fsck', '-fn', verbatim);
  });

  test('tells what happened as JSON on the last line of stderr', async () => {
    using disk = loopFilesystem({ sizeMiB: 16 });
    const stderr = await dumpTo(join(disk.scratch, 'a.img'), disk, '--json');
    const facts = JSON.parse(stderr.trim().split('\n').at(-1) ?? '');
    assert.equal(facts.sizeBytes, 16 * 1024 * 1024);
    assert.equal(facts.capture.consistency, 'frozen');
    assert.equal(facts.capture.filesystem, 'ext4');
    assert.ok(facts.capture.freezeMs > 0);
    assert.ok(facts.allocatedBytes < facts.sizeBytes / 2);
  });

  test('needs no links of udev and no data folder on another filesystem', async () => {
    using disk = loopFilesystem({ sizeMiB: 16 });
    // Hidden in this mount namespace only; where no udev is, the folder is not there at all.
    const isHidden = spawnSync('mount', ['-t', 'tmpfs', 'none', '/dev/block']).status === 0;
    try {
      const image = join(disk.scratch, 'a.img');
      const words = ['snapshot', 'dump', '--source', disk.mountPoint, '-o', image, '--json'];
      const env = { HOME: disk.mountPoint, XDG_CONFIG_HOME: disk.mountPoint };
      const { status, stderr } = await startIngot(words, { env }).ended;
      assert.equal(status, 0, stderr);
      assert.equal(JSON.parse(stderr.trim()).capture.consistency, 'frozen');
      run('e2fsck', '-fn', image);
    } finally {
      if (isHidden) run('umount', '/dev/block');
    }
  });

  test('without a freeze says so', async () => {
    using disk = loopFilesystem({ sizeMiB: 16 });
    const stderr = await dumpTo(join(disk.scratch, 'a.img'), disk, '--no-freeze', '--json');
    assert.equal(JSON.parse(stderr.trim()).capture.consistency, 'none');
  });
});

describe('a source may be', () => {
  test('a folder deep inside, a mount point with blanks, or a bind mount', async () => {
    using disk = loopFilesystem({ sizeMiB: 16, mountName: 'mount with\ttab and \\ blank' });
    mkdirSync(join(disk.mountPoint, 'deep', 'inside'), { recursive: true });
    const bound = join(disk.scratch, 'bound');
    mkdirSync(bound);
    run('mount', '--bind', join(disk.mountPoint, 'deep'), bound);
    try {
      for (const source of [
        disk.mountPoint,
        join(disk.mountPoint, 'deep', 'inside'),
        bound,
        disk.device,
      ]) {
        const image = join(disk.scratch, 'a.img');
        const { status, stderr } = await ingot(
          'snapshot',
          'dump',
          '--source',
          source,
          '-o',
          image,
          '--json',
        );
        assert.equal(status, 0, `${source}: ${stderr}`);
        assert.equal(JSON.parse(stderr.trim()).capture.consistency, 'frozen', source);
        run('e2fsck', '-fn', image);
      }
    } finally {
      run('umount', bound);
    }
  });

  test('a filesystem under another mount: the folder is what shows, the device is refused', async () => {
    using below = loopFilesystem({ sizeMiB: 16 });
    using above = loopFilesystem({ sizeMiB: 24 });
    run('mount', '--bind', above.mountPoint, below.mountPoint);
    try {
      const image = join(below.scratch, 'a.img');
      assert.equal(
        (await ingot('snapshot', 'dump', '--source', below.mountPoint, '-o', image)).status,
        0,
      );
      assert.equal(statSync(image).size, 24 * 1024 * 1024);
      const covered = await ingot('snapshot', 'dump', '--source', below.device, '-o', image);
      assert.equal(covered.status, 46, covered.stderr);
      assert.match(covered.stderr, /another mount covers it/);
    } finally {
      run('umount', below.mountPoint);
    }
  });

  test('a btrfs subvolume: its filesystem is frozen', async () => {
    using disk = loopFilesystem({ kind: 'btrfs', sizeMiB: 320 });
    const subvolume = join(disk.mountPoint, 'subvolume');
    run('btrfs', 'subvolume', 'create', subvolume);
    const image = join(disk.scratch, 'a.img');
    const { status, stderr } = await ingot(
      'snapshot',
      'dump',
      '--source',
      subvolume,
      '-o',
      image,
      '--json',
    );
    assert.equal(status, 0, stderr);
    assert.equal(JSON.parse(stderr.trim()).capture.consistency, 'frozen');
    const refused = await ingot(
      'snapshot',
      'dump',
      '--source',
      disk.mountPoint,
      '-o',
      join(subvolume, 'a.img'),
    );
    assert.equal(refused.status, 49, refused.stderr);
  });

  test('a whole disk: every filesystem mounted from its partitions is frozen', async () => {
    using beside = loopFilesystem({ sizeMiB: 16 });
    const image = join(beside.scratch, 'disk.img');
    writeFileSync(image, '');
    truncateSync(image, 80 * 1024 * 1024);
    run('sh', '-c', 'printf "label: gpt\\nsize=32MiB\\nsize=32MiB\\n" | sfdisk -q "$0"', image);
    const device = run('losetup', '--find', '--show', image).trim();
    // Not every kernel reads partition tables of loop devices by itself.
    spawnSync('partx', ['--add', device]);
    const mounted: string[] = [];
    try {
      for (const number of [1, 2]) {
        const folder = join(beside.scratch, `part-${number}`);
        mkdirSync(folder);
        run('mkfs.ext4', '-q', '-F', `${device}p${number}`);
        run('mount', `${device}p${number}`, folder);
        mounted.push(folder);
      }
      run('dd', `if=${device}`, 'of=/dev/null', 'bs=1M');
      for (const folder of mounted) writeFiles(folder);
      const trees = mounted.map(treeOf);
      const copy = join(beside.scratch, 'copy.img');
      const words = ['snapshot', 'dump', '--source', device];
      const { status, stderr } = await ingot(...words, '-o', copy, '--json');
      assert.equal(status, 0, stderr);
      const { capture } = JSON.parse(stderr.trim().split('\n').at(-1) ?? '');
      assert.equal(capture.consistency, 'frozen');
      const inside = await ingot(...words, '-o', join(mounted[1] ?? '', 'a.img'));
      assert.equal(inside.status, 49, inside.stderr);
      for (const folder of mounted) assert.ok(await settlesWithin(startWriter(folder).done, 5000));
      // All or nothing: when one of them cannot be frozen, the other one is not left frozen.
      run('fsfreeze', '-f', mounted[1] ?? '');
      const busy = await ingot(...words, '-o', copy);
      run('fsfreeze', '-u', mounted[1] ?? '');
      assert.equal(busy.status, 41, busy.stderr);
      for (const folder of mounted) assert.ok(await settlesWithin(startWriter(folder).done, 5000));
      for (const folder of mounted.splice(0)) run('umount', folder);
      for (const [i, tree] of trees.entries()) {
        const offset = 1024 * 1024 * (1 + 32 * i);
        const options = `loop,ro,noload,offset=${offset},sizelimit=${32 * 1024 * 1024}`;
        assert.deepEqual(differences(tree, treeOf(beside.mountImage(copy, options))), []);
        beside.unmountImages();
      }
    } finally {
      for (const folder of mounted) {
        spawnSync('fsfreeze', ['-u', folder]);
        spawnSync('umount', [folder]);
      }
      spawnSync('partx', ['--delete', device]);
      run('losetup', '--detach', device);
    }
  });

  test('an overlay: the filesystem of its upper layer', async () => {
    using disk = loopFilesystem({ sizeMiB: 16 });
    for (const name of ['lower', 'upper', 'work']) mkdirSync(join(disk.mountPoint, name));
    const merged = join(disk.scratch, 'merged');
    mkdirSync(merged);
    const layers = ['lower', 'upper', 'work'].map((name) => join(disk.mountPoint, name));
    run(
      'mount',
      '-t',
      'overlay',
      'overlay',
      '-o',
      `lowerdir=${layers[0]},upperdir=${layers[1]},workdir=${layers[2]}`,
      merged,
    );
    try {
      const image = join(disk.scratch, 'a.img');
      const { status, stderr } = await ingot('snapshot', 'dump', '--source', merged, '-o', image);
      assert.equal(status, 0, stderr);
      assert.match(stderr, /overlay/);
      const refused = await ingot(
        'snapshot',
        'dump',
        '--source',
        disk.mountPoint,
        '-o',
        join(merged, 'a.img'),
      );
      assert.equal(refused.status, 49, refused.stderr);
    } finally {
      run('umount', merged);
    }
  });

  test('an image file: kept verbatim, holes stay holes, and refused while it is mounted', async () => {
    using disk = loopFilesystem({ sizeMiB: 16 });
    const mounted = await ingot(
      'snapshot',
      'dump',
      '--source',
      disk.image,
      '-o',
      join(disk.scratch, 'a'),
    );
    assert.equal(mounted.status, 43, mounted.stderr);
    assert.match(mounted.stderr, /mounted at/);
    const image = join(disk.scratch, 'sparse.img');
    writeFileSync(image, randomBytes(100_001));
    truncateSync(image, 40_000_001);
    const copy = join(disk.scratch, 'copy.img');
    assert.equal((await ingot('snapshot', 'dump', '--source', image, '-o', copy)).status, 0);
    run('cmp', image, copy);
    assert.ok(statSync(copy).blocks * 512 < 1_000_000);
  });

  test('nothing else', async () => {
    using disk = loopFilesystem({ sizeMiB: 16 });
    const cases = { '/dev/null': 43, '/proc': 43, '/dev/shm': 43, '/nonexistent/x': 42 };
    for (const [source, expected] of Object.entries(cases)) {
      const { status, stderr } = await ingot(
        'snapshot',
        'dump',
        '--source',
        source,
        '-o',
        join(disk.scratch, 'a'),
      );
      assert.equal(status, expected, `${source}: ${stderr}`);
    }
  });
});

describe('a dump refuses before it freezes', () => {
  test('an output, stdout, stderr or TMPDIR on the filesystem that would freeze', async () => {
    using disk = loopFilesystem({ sizeMiB: 16 });
    const elsewhere = join(disk.scratch, 'a.img');
    const inside = join(disk.mountPoint, 'inside');
    const fd = openSync(inside, 'w');
    const words = ['snapshot', 'dump', '--source', disk.mountPoint];
    const started = performance.now();
    const endings = [
      await ingot(...words, '-o', join(disk.mountPoint, 'a.img')),
      await startIngot(words, { stdout: fd }).ended,
      await startIngot([...words, '-o', elsewhere], { stderr: fd }).ended,
      await startIngot([...words, '-o', elsewhere], { env: { TMPDIR: disk.mountPoint } }).ended,
    ];
    closeSync(fd);
    assert.deepEqual(
      endings.map(({ status }) => status),
      [49, 49, 49, 49],
    );
    // One that hangs on its own output takes 30 s.
    assert.ok(performance.now() - started < 30_000, 'it took long to refuse');
    assert.deepEqual(readdirSync(disk.mountPoint).sort(), ['inside', 'lost+found']);
    assert.ok(await settlesWithin(startWriter(disk.mountPoint).done, 5000));
  });

  test('an output below a loop device that lies on the filesystem', async () => {
    using outer = loopFilesystem({ sizeMiB: 64 });
    const image = join(outer.mountPoint, 'inner.img');
    writeFileSync(image, '');
    truncateSync(image, 16 * 1024 * 1024);
    run('mkfs.ext4', '-q', '-F', image);
    const inner = join(outer.scratch, 'inner');
    mkdirSync(inner);
    run('mount', '-o', 'loop', image, inner);
    try {
      const { status, stderr } = await ingot(
        'snapshot',
        'dump',
        '--source',
        outer.mountPoint,
        '-o',
        join(inner, 'a'),
      );
      assert.equal(status, 49, stderr);
    } finally {
      run('umount', inner);
    }
  });

  test('a terminal as its output', async () => {
    using disk = loopFilesystem({ sizeMiB: 16 });
    const entry = join(import.meta.dirname, '../../src/start/cli/main.ts');
    const command = `'${process.execPath}' '${entry}' snapshot dump --source '${disk.mountPoint}'`;
    const said = run(
      'sh',
      '-c',
      'script -qec "$0; echo status \\$?" /dev/null < /dev/null',
      command,
    );
    assert.match(said, /target-is-terminal/);
    assert.match(said, /status 50/);
  });

  test('a target that is too small', async () => {
    using disk = loopFilesystem({ sizeMiB: 64 });
    using small = loopFilesystem({ sizeMiB: 8 });
    run('dd', 'if=/dev/urandom', `of=${join(disk.mountPoint, 'data')}`, 'bs=1M', 'count=20');
    const { status, stderr } = await ingot(
      'snapshot',
      'dump',
      '--source',
      disk.mountPoint,
      '-o',
      join(small.mountPoint, 'a'),
    );
    assert.equal(status, 51, stderr);
    assert.deepEqual(readdirSync(small.mountPoint), ['lost+found']);
  });
});

describe('a dump to a device', () => {
  test('writes every byte, holes too, and refuses one that is mounted or too small', async () => {
    using disk = loopFilesystem({ sizeMiB: 16 });
    const backing = join(disk.scratch, 'target.img');
    writeFileSync(backing, Buffer.alloc(20 * 1024 * 1024, 0x55));
    const device = run('losetup', '--find', '--show', backing).trim();
    try {
      const words = ['snapshot', 'dump', '--source', disk.mountPoint, '-o'];
      const image = join(disk.scratch, 'a.img');
      run('mount', '-o', 'remount,ro', disk.mountPoint);
      assert.equal((await ingot(...words, image)).status, 0);
      assert.equal((await ingot(...words, device)).status, 0);
      run('cmp', '-n', String(16 * 1024 * 1024), image, device);
      const mounted = await ingot('snapshot', 'dump', '--source', device, '-o', disk.device);
      assert.equal(mounted.status, 54, mounted.stderr);
      truncateSync(backing, 8 * 1024 * 1024);
      run('losetup', '--set-capacity', device);
      const small = await ingot(...words, device);
      assert.equal(small.status, 51, small.stderr);
    } finally {
      run('losetup', '--detach', device);
    }
  });
});

describe('a dump that fails', () => {
  test('for want of space leaves no file, wherever the space ends', async () => {
    using disk = loopFilesystem({ sizeMiB: 64 });
    using small = loopFilesystem({ sizeMiB: 16, mkfsOptions: ['-m', '0'] });
    run('dd', 'if=/dev/urandom', `of=${join(disk.mountPoint, 'data')}`, 'bs=1M', 'count=4');
    const whole = join(disk.scratch, 'whole.gz');
    await dumpTo(whole, disk, '-C', 'gzip');
    const neededBytes = statSync(whole).size;
    const filler = join(small.mountPoint, 'filler');
    let failures = 0;
    // From far too little to just enough: the last block is where a lost error would show.
    for (const missingBytes of [3_000_000, 70_000, 9000, 4096, 1, -400_000]) {
      run('rm', '-f', filler);
      const { free } = freeBytes(small.mountPoint);
      run('fallocate', '-l', String(Math.max(4096, free - neededBytes + missingBytes)), filler);
      const output = join(small.mountPoint, 'a.gz');
      const { status, stderr } = await ingot(
        'snapshot',
        'dump',
        '--source',
        disk.mountPoint,
        '-C',
        'gzip',
        '-o',
        output,
      );
      if (status === 0) {
        run('gzip', '-t', output);
        run('rm', output);
      } else {
        failures += 1;
        assert.equal(status, 52, stderr);
      }
      assert.deepEqual(readdirSync(small.mountPoint).sort(), ['filler', 'lost+found']);
    }
    assert.ok(failures >= 2 && failures <= 5, `${failures} of 6 failed`);
    assert.ok(await settlesWithin(startWriter(disk.mountPoint).done, 5000));
  });

  test('because it was killed leaves a partial file, which the next dump removes', async () => {
    using disk = loopFilesystem({ sizeMiB: 16 });
    const source = join(disk.scratch, 'source.img');
    writeFileSync(source, randomBytes(8 * 1024 * 1024));
    const folder = join(disk.scratch, 'output');
    mkdirSync(folder);
    const words = ['snapshot', 'dump', '--source', source, '-C', 'lzma', '-o'];
    const start = (name: string) => startIngot([...words, join(folder, name)]);
    const partial = (of: string) =>
      readdirSync(folder).find((name) => name.startsWith(`.${of}.`) && name.endsWith('-partial'));
    const killed = start('killed');
    await eventually('a partial file', () => partial('killed'));
    killed.child.kill('SIGKILL');
    await killed.ended;
    writeFileSync(join(folder, '.mine.0123456789ab.partial'), 'of somebody else');
    assert.notEqual(partial('killed'), undefined);
    // Of two that run at once neither takes the other's file.
    const both = [start('one'), start('two')];
    await eventually('the end of what was left', () => (partial('killed') ? undefined : true));
    for (const { ended } of both) assert.equal((await ended).status, 0);
    const left = readdirSync(folder).sort();
    assert.deepEqual(left, ['.mine.0123456789ab.partial', 'one', 'two']);
  });

  test('on SIGTERM ends with 130 and leaves no file', async () => {
    using disk = loopFilesystem({ sizeMiB: 256 });
    run('dd', 'if=/dev/urandom', `of=${join(disk.mountPoint, 'data')}`, 'bs=1M', 'count=200');
    const folder = join(disk.scratch, 'output');
    mkdirSync(folder);
    const dump = startIngot([
      'snapshot',
      'dump',
      '--source',
      disk.mountPoint,
      '-C',
      'lzma',
      '-o',
      join(folder, 'a.xz'),
    ]);
    await eventually('a partial file', () => readdirSync(folder)[0]);
    dump.child.kill('SIGTERM');
    const { status, stderr } = await dump.ended;
    assert.equal(status, 130, stderr);
    assert.deepEqual(readdirSync(folder), []);
    assert.ok(await settlesWithin(startWriter(disk.mountPoint).done, 5000));
  });
});

function freeBytes(folder: string): { readonly free: number } {
  const free = run('df', '--output=avail', '-B1', folder).trim().split('\n').at(-1);
  return { free: Number(free) };
}
