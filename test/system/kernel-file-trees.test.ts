import assert from 'node:assert/strict';
import {
  closeSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { IngotError } from '../../src/base/index.ts';
import { type ByteReader, type FileTree, lookUp, openFileTree } from '../../src/bytes/index.ts';
import { compareTrees } from '../interop/compare-trees.ts';
import { openImage } from '../interop/disk-image.ts';
import { patchedReader, recordingReader, walkTree } from '../support/walk-tree.ts';
import { type LoopFilesystem, loopFilesystem, run } from './loop-filesystem.ts';

type Kind = 'xfs' | 'btrfs';

/** Writes what the kernel lays out in ways of its own. */
function fill(root: string): void {
  for (const length of [0, 1, 59, 130, 2000, 4000, 4097, 300_000]) {
    writeFileSync(join(root, `length ${length}`), 'abcdefg'.repeat(43_000).slice(0, length));
  }
  for (const names of [1, 3, 9, 40, 700, 6000]) {
    mkdirSync(join(root, `folder ${names}`));
    for (let i = 0; i < names; i++) writeFileSync(join(root, `folder ${names}`, `n${i}`), `${i}`);
  }
  // Names that leave leave gaps in the blocks of a directory.
  for (let i = 0; i < 700; i += 3) rmSync(join(root, 'folder 700', `n${i}`));
  for (const length of [20, 59, 200, 400, 1000]) {
    symlinkSync(`${'l'.repeat(length - 1)}!`, join(root, `link ${length}`));
  }
  writeFileSync(join(root, 'line\nbreak \u{1b}[31m'), 'name');
  linkSync(join(root, 'length 59'), join(root, 'folder 3', 'hard link'));
  const preallocated = join(root, 'preallocated');
  writeFileSync(preallocated, 'head');
  run('fallocate', '--length', '600000', preallocated);
  const fragments = openSync(join(root, 'fragments'), 'w');
  for (let i = 0; i < 800; i++) writeSync(fragments, `piece ${i}`, i * 12_288);
  closeSync(fragments);
  const random = Buffer.alloc(700_001);
  for (let i = 0, x = 1; i < random.length; i++) {
    x = (Math.imul(x, 1_103_515_245) + 12_345) >>> 0;
    random[i] = x >>> 16;
  }
  writeFileSync(join(root, 'does not compress'), random);
}

/** What {@link fill} makes. */
const NAMES = 8 + 6 + 1 + 3 + 9 + 40 + 466 + 6000 + 5 + 1 + 1 + 1 + 1 + 1;

async function openTree(reader: ByteReader, kind: Kind): Promise<FileTree> {
  const tree = await openFileTree(reader, kind, { offsetBytes: 0, sizeBytes: reader.sizeBytes });
  assert.ok(tree !== undefined);
  return tree;
}

/** Unmounts, so that all is on the disk, and mounts again for reading. */
function remount(loop: LoopFilesystem, options: string): string {
  run('umount', loop.mountPoint);
  return loop.mountImage(loop.image, `loop,ro,${options}`);
}

const XFS: Readonly<Record<string, readonly string[]>> = {
  'as it is made by default': [],
  'blocks of 1 KiB': ['-b', 'size=1024'],
  'inodes of 2 KiB, directory blocks of 16 KiB': ['-i', 'size=2048', '-n', 'size=16384'],
  'without wide counts, big times and reflinks': ['-i', 'nrext64=0', '-m', 'bigtime=0,reflink=0'],
};

const BTRFS: Readonly<Record<string, readonly [mkfs: readonly string[], mount: string]>> = {
  'as it is made by default': [[], 'defaults'],
  'small nodes, doubled metadata, explicit holes': [
    ['-n', '4096', '-m', 'dup', '-O', '^no-holes'],
    'defaults',
  ],
  'compressed with zstd': [['--csum', 'sha256'], 'compress-force=zstd'],
  'compressed with lzo': [[], 'compress-force=lzo'],
  'compressed with zlib': [['--csum', 'xxhash'], 'compress-force=zlib'],
};

describe('reading files of XFS and btrfs that the kernel wrote', () => {
  for (const [name, mkfsOptions] of Object.entries(XFS)) {
    test(`XFS, ${name}: every file, link and directory is there with its bytes`, async () => {
      using loop = loopFilesystem({ kind: 'xfs', sizeMiB: 320, mkfsOptions });
      fill(loop.mountPoint);
      const mounted = remount(loop, 'norecovery');
      using reader = openImage(loop.image);
      const tree = await openTree(reader, 'xfs');
      assert.equal(tree.needsRecovery, false);
      assert.equal(await compareTrees(tree, await tree.root(), mounted), NAMES);
    });
  }

  for (const [name, [mkfsOptions, mountOptions]] of Object.entries(BTRFS)) {
    test(`btrfs, ${name}: every file, link and directory is there with its bytes`, async () => {
      using loop = loopFilesystem({ kind: 'btrfs', sizeMiB: 256, mkfsOptions });
      run('mount', '-o', `remount,${mountOptions}`, loop.mountPoint);
      fill(loop.mountPoint);
      const mounted = remount(loop, 'defaults');
      using reader = openImage(loop.image);
      const tree = await openTree(reader, 'btrfs');
      assert.equal(tree.needsRecovery, false);
      assert.equal(await compareTrees(tree, await tree.root(), mounted), NAMES);
    });
  }

  test('btrfs: subvolumes and snapshots stand where they do when mounted', async () => {
    using loop = loopFilesystem({ kind: 'btrfs', sizeMiB: 256 });
    const at = (path: string): string => join(loop.mountPoint, path);
    run('btrfs', 'subvolume', 'create', at('@'));
    run('btrfs', 'subvolume', 'create', at('@/var'));
    mkdirSync(at('@/etc'));
    writeFileSync(at('@/etc/hostname'), 'golden');
    writeFileSync(at('@/var/log'), 'line');
    run('btrfs', 'subvolume', 'snapshot', '-r', at('@'), at('before'));
    writeFileSync(at('@/etc/hostname'), 'changed since');
    const mounted = remount(loop, 'subvolid=5');
    using reader = openImage(loop.image);
    const tree = await openTree(reader, 'btrfs');
    // @, its etc/hostname and var/log; the snapshot has an empty directory in place of `var`.
    assert.equal(await compareTrees(tree, await tree.root(), mounted), 5 + 4);
    const root = await tree.root();
    const subvolume = await lookUp(tree, root, Buffer.from('@'));
    assert.ok(subvolume !== undefined);
    assert.equal(tree.isSubvolume(subvolume), true);
    assert.equal(tree.isSubvolume(root), false);
  });

  test('btrfs: the default subvolume is the top', async () => {
    using loop = loopFilesystem({ kind: 'btrfs', sizeMiB: 256 });
    run('btrfs', 'subvolume', 'create', join(loop.mountPoint, '@'));
    writeFileSync(join(loop.mountPoint, '@/inside'), '');
    run('btrfs', 'subvolume', 'set-default', join(loop.mountPoint, '@'));
    const mounted = remount(loop, 'defaults');
    using reader = openImage(loop.image);
    const tree = await openTree(reader, 'btrfs');
    assert.equal(await compareTrees(tree, await tree.root(), mounted), 1);
  });

  test('XFS: a log that was not replayed is said', async () => {
    using loop = loopFilesystem({ kind: 'xfs', sizeMiB: 320 });
    writeFileSync(join(loop.mountPoint, 'new'), 'new');
    run('sync', '--file-system', loop.mountPoint);
    // As a power cut leaves it: the log has what the inodes do not.
    run('xfs_io', '-x', '-c', 'shutdown', loop.mountPoint);
    run('umount', loop.mountPoint);
    using reader = openImage(loop.image);
    assert.equal((await openTree(reader, 'xfs')).needsRecovery, true);
  });
});

/** Makes a btrfs whose checksums are of a kind that is not compared. */
function makeWeakBtrfs(image: string, folder: string): void {
  const tree = join(folder, 'tree');
  mkdirSync(tree);
  fill(tree);
  run('truncate', '-s', '256M', image);
  const options = ['--csum', 'xxhash', '-n', '4096', '-m', 'single'];
  run('mkfs.btrfs', '-q', '-f', ...options, '--rootdir', tree, image);
}

/** Makes an XFS of version 4, which has no checksums; kernels of today mount none. */
function makeWeakXfs(image: string, folder: string): void {
  const content = join(folder, 'content');
  writeFileSync(content, Buffer.alloc(200_000, 'content. '));
  const lines = ['/none', '0 0', 'd--755 0 0', `file ---644 0 0 ${content}`];
  for (const names of [3, 20, 700]) {
    lines.push(`folder${names} d--755 0 0`, 'below d--755 0 0', '$', 'link l--777 0 0 ../file');
    for (let i = 0; i < names; i++) lines.push(`n${i} ---644 0 0 /dev/null`);
    lines.push('$');
  }
  const prototype = join(folder, 'prototype');
  writeFileSync(prototype, `${lines.join('\n')}\n$\n`);
  run('mkfs.xfs', '-q', '-m', 'crc=0', '-p', prototype, '-d', `file,name=${image},size=320m`);
}

const WEAK = { xfs: makeWeakXfs, btrfs: makeWeakBtrfs };

describe('damaged XFS and btrfs filesystems', () => {
  for (const kind of ['xfs', 'btrfs'] as const) {
    test(`${kind}: bytes that were changed anywhere in the metadata never crash, hang or fill the memory`, async () => {
      const folder = mkdtempSync(join(tmpdir(), 'ingot-weak-'));
      after(() => rmSync(folder, { recursive: true }));
      const image = join(folder, 'image');
      WEAK[kind](image, folder);
      using reader = openImage(image);
      const pages = new Set<number>();
      await walkTree(await openTree(recordingReader(reader, pages), kind));
      const places = [...pages].toSorted((a, b) => a - b);
      let seed = 20_261_122;
      const random = (below: number): number => {
        seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
        return Math.floor((seed / 2 ** 32) * below);
      };
      let failures = 0;
      for (let round = 0; round < 100; round++) {
        const patches = new Map<number, number>();
        for (let i = 0; i < 40; i++) {
          const page = places[random(places.length)] ?? 0;
          patches.set(page * 4096 + random(4096), random(3) === 0 ? 0xff : random(256));
        }
        try {
          await walkTree(await openTree(patchedReader(reader, patches), kind));
        } catch (thrown) {
          assert.ok(thrown instanceof IngotError, `round ${round}: ${String(thrown)}`);
          failures += 1;
        }
      }
      assert.ok(failures > 0, 'no change was noticed, so nothing was tested');
    });
  }
});
