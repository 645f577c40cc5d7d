import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { readExtMap } from '../../src/bytes/filesystems/ext/ext-map.ts';
import { MetadataReader } from '../../src/bytes/filesystems/metadata-reader.ts';
import { type DiskMap, readDiskMap, totalBytes } from '../../src/bytes/index.ts';
import {
  copyMasked,
  makeDirtyImage,
  makeTree,
  missingTools,
  openImage,
  run,
} from './disk-image.ts';

const MIB = 1024 * 1024;
/** Small, so that all sets together stay below half a minute; a group of 1 KiB blocks has 8 MiB. */
const IMAGE_BYTES = 32 * MIB;
const skip = missingTools('mke2fs', 'dumpe2fs', 'e2fsck', 'debugfs').join(', ');

/** mke2fs options of each feature set. Small groups, so that a small image has many. */
const FEATURE_SETS: Readonly<Record<string, readonly string[]>> = {
  'ext2, 1 KiB blocks': ['-t', 'ext2', '-b', '1024'],
  'ext2, 4 KiB blocks': ['-t', 'ext2', '-b', '4096', '-g', '2048'],
  'ext2 without copies of the superblock left out': [
    '-t',
    'ext2',
    '-b',
    '1024',
    '-O',
    '^sparse_super,^resize_inode',
  ],
  'ext3, 1 KiB blocks': ['-t', 'ext3', '-b', '1024'],
  'ext3, 4 KiB blocks': ['-t', 'ext3', '-b', '4096', '-g', '2048'],
  'ext4 as it is made by default': [],
  'ext4, 1 KiB blocks': ['-b', '1024'],
  'ext4, 2 KiB blocks': ['-b', '2048', '-g', '4096'],
  'ext4, 4 KiB blocks, many groups': ['-b', '4096', '-g', '2048'],
  'ext4, 16 KiB blocks': ['-b', '16384', '-g', '1024', '-F', '-F'],
  'without flex_bg': ['-b', '4096', '-g', '2048', '-O', '^flex_bg'],
  'flex_bg of 4 groups': ['-b', '4096', '-g', '2048', '-G', '4'],
  'meta_bg, 4 KiB blocks': ['-b', '4096', '-g', '256', '-O', 'meta_bg,^resize_inode'],
  'meta_bg, 1 KiB blocks': ['-b', '1024', '-g', '1024', '-O', 'meta_bg,^resize_inode'],
  'meta_bg with 64-bit descriptors': [
    '-b',
    '1024',
    '-g',
    '512',
    '-O',
    'meta_bg,64bit,^resize_inode',
  ],
  'meta_bg without flex_bg': ['-b', '1024', '-g', '1024', '-O', 'meta_bg,^resize_inode,^flex_bg'],
  'bigalloc, 4 KiB blocks': ['-b', '4096', '-C', '16384', '-g', '8192', '-O', 'bigalloc'],
  'bigalloc, 64 KiB clusters': ['-b', '4096', '-C', '65536', '-O', 'bigalloc'],
  'bigalloc, 1 KiB blocks': ['-b', '1024', '-C', '8192', '-g', '8192', '-O', 'bigalloc'],
  'uninit_bg with CRC-16': ['-b', '1024', '-O', '^metadata_csum,uninit_bg'],
  'uninit_bg with CRC-16, 32-bit': ['-b', '1024', '-O', '^metadata_csum,uninit_bg,^64bit'],
  'no group checksums': ['-b', '1024', '-O', '^metadata_csum,^uninit_bg'],
  '32-bit descriptors': ['-b', '1024', '-O', '^64bit'],
  sparse_super2: ['-b', '1024', '-g', '2048', '-O', 'sparse_super2,^resize_inode'],
  'no journal': ['-b', '1024', '-O', '^has_journal'],
  inline_data: ['-b', '1024', '-I', '256', '-O', 'inline_data'],
  orphan_file: ['-b', '1024', '-O', 'orphan_file'],
  'without orphan_file': ['-b', '1024', '-O', '^orphan_file'],
  'encrypt, casefold, verity': ['-b', '4096', '-g', '2048', '-O', 'encrypt,casefold,verity'],
  'quota, project': ['-b', '1024', '-O', 'quota,project'],
  'ea_inode, large_dir': ['-b', '1024', '-O', 'ea_inode,large_dir'],
  'metadata_csum_seed, stable_inodes': ['-b', '1024', '-O', 'metadata_csum_seed,stable_inodes'],
  fast_commit: ['-b', '4096', '-g', '2048', '-O', 'fast_commit'],
  mmp: ['-b', '1024', '-O', 'mmp'],
  'inodes of 128 bytes, few': ['-b', '1024', '-I', '128', '-N', '1024'],
  'inodes of 1024 bytes': ['-b', '4096', '-g', '2048', '-I', '1024', '-N', '2048'],
};

/** Free blocks of every group, as dumpe2fs lists them; in blocks. */
function freeBlocksOf(image: string, clusterBlocks: number): [number, number][] {
  const free: [number, number][] = [];
  for (const line of run('dumpe2fs', [image]).matchAll(/^ {2}Free blocks: (.+)$/gm)) {
    for (const range of (line[1] ?? '').split(', ')) {
      const [first, last] = range.split('-').map(Number);
      if (first === undefined || Number.isNaN(first)) continue;
      // With clusters the last number is the first block of the last free cluster.
      free.push([first, (last ?? first) + clusterBlocks]);
    }
  }
  return free;
}

interface Geometry {
  readonly blockBytes: number;
  readonly clusterBlocks: number;
  readonly blocks: number;
}

function geometryOf(image: string): Geometry {
  const text = run('dumpe2fs', ['-h', image]);
  const number = (name: string): number =>
    Number(new RegExp(`^${name}: +(\\d+)`, 'm').exec(text)?.[1] ?? 0);
  const blockBytes = number('Block size');
  const clusterBytes = number('Cluster size') || blockBytes;
  return { blockBytes, clusterBlocks: clusterBytes / blockBytes, blocks: number('Block count') };
}

describe('maps of ext filesystems', {
  skip: skip === '' ? false : `not installed: ${skip}`,
}, () => {
  let folder = '';
  let tree = '';
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'ingot-ext-map-'));
    tree = join(folder, 'tree');
    mkdirSync(tree);
    makeTree(tree);
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  for (const [name, options] of Object.entries(FEATURE_SETS)) {
    test(`${name}: equal to dumpe2fs, and the masked copy has every file`, async () => {
      const image = join(folder, 'image');
      makeDirtyImage(image, IMAGE_BYTES);
      const typed = options.includes('-t') ? [] : ['-t', 'ext4'];
      run('mke2fs', ['-q', '-F', ...typed, '-E', 'nodiscard', ...options, '-d', tree, image]);
      // Tools that write to a filesystem with mmp wait for twenty seconds.
      if (name !== 'mmp') makeGaps(image);
      using reader = openImage(image);

      const disk = new MetadataReader(reader, { offsetBytes: 0, sizeBytes: reader.sizeBytes });
      const exact = await readExtMap(disk, { state: 'at-rest', dropsStale: false });
      assert.deepEqual(exact.notices, []);
      assert.deepEqual([...exact.allocated.extents()], usedOf(image, reader.sizeBytes));

      const map = await readDiskMap(reader);
      assert.deepEqual(map.notices, []);
      const masked = join(folder, 'masked');
      copyMasked(image, masked, map.allocated);
      run('e2fsck', ['-fn', masked]);
      assertSameFiles(folder, image, masked);
    });
  }

  test('old bytes stay behind: in free blocks, the journal, inode tables, unwritten extents', async () => {
    const image = join(folder, 'image');
    makeDirtyImage(image, IMAGE_BYTES);
    // mke2fs leaves old bytes in the copies of the reserved descriptor blocks; they are copied.
    const options = ['-E', 'nodiscard,lazy_itable_init=1', '-O', '^resize_inode'];
    run('mke2fs', ['-q', '-F', '-t', 'ext4', ...options, image]);
    run(
      'debugfs',
      ['-w', '-f', '-', image],
      'write /dev/null reserved\nfallocate reserved 0 999\n',
    );
    settle(image);
    const map = await mapOf(image);
    assert.deepEqual(map.notices, []);
    const masked = join(folder, 'masked');
    copyMasked(image, masked, map.allocated);
    run('e2fsck', ['-fn', masked]);
    assert.equal(readFileSync(masked).indexOf('old secret'), -1);
    assert.match(run('debugfs', ['-R', 'stat reserved', masked]), /\(0-999\[u\]\)/);
  });

  test('a journal that needs recovery, errors, an unclean ext2: everything is copied', async () => {
    const image = join(folder, 'image');
    const cases = [
      ['ext4', 'feature needs_recovery', 'ext4: the journal needs recovery: everything is copied'],
      ['ext4', 'ssv state 3', 'ext4: it is marked as having errors: everything is copied'],
      ['ext2', 'ssv state 0', 'ext2: it was not unmounted cleanly: everything is copied'],
    ] as const;
    for (const [type, request, notice] of cases) {
      makeDirtyImage(image, 8 * MIB);
      run('mke2fs', ['-q', '-F', '-t', type, '-d', tree, image]);
      run('debugfs', ['-w', '-R', request, image]);
      const map = await mapOf(image);
      assert.deepEqual(map.notices, [notice]);
      assert.deepEqual(map.allocated, [{ offsetBytes: 0, lengthBytes: 8 * MIB }]);
      assert.ok(map.fileExtents !== undefined);
    }
    // Frozen, an ext2 cannot be marked clean, and a live map is a guess anyway.
    using reader = openImage(image);
    for (const state of ['frozen', 'live'] as const) {
      const map = await readDiskMap(reader, { state });
      assert.deepEqual(map.notices, []);
      assert.ok(totalBytes(map.allocated) < 8 * MIB);
    }
  });

  test('an extent of 32768 blocks, the longest, is written and not empty', async () => {
    const image = join(folder, 'image');
    const large = join(folder, 'large');
    mkdirSync(large);
    writeFileSync(join(large, 'file'), Buffer.alloc(40 * MIB, 'content'));
    makeDirtyImage(image, 60 * MIB);
    // Without copies of the superblock nothing stands in the way of one long run.
    const features = ['-O', '^has_journal,^resize_inode,sparse_super2'];
    const extended = ['-E', 'nodiscard,num_backup_sb=0'];
    run('mke2fs', ['-q', '-F', '-t', 'ext4', '-b', '1024', ...features, ...extended, image]);
    run('debugfs', ['-w', '-R', `write ${join(large, 'file')} file`, image]);
    // e2fsprogs stop one block short; the kernel does not.
    const first = Number(/0 - 32766 +(\d+) -/.exec(run('debugfs', ['-R', 'ex file', image]))?.[1]);
    const second = `n\nreplace_node 32768 8192 ${first + 32_768}\n`;
    const requests = `eo file\nroot\nreplace_node 0 32768 ${first}\n${second}ec\n`;
    run('debugfs', ['-w', '-f', '-', image], requests);
    assert.match(run('debugfs', ['-R', 'ex file', image]), / 32768\s*$/m);
    const map = await mapOf(image);
    assert.deepEqual(map.notices, []);
    const masked = join(folder, 'masked');
    copyMasked(image, masked, map.allocated);
    run('debugfs', ['-R', `dump file ${join(folder, 'dumped')}`, masked]);
    run('cmp', [join(large, 'file'), join(folder, 'dumped')]);
    assert.ok(map.fileExtents?.lengths.some((length) => length === 40 * MIB));
    rmSync(large, { recursive: true });
  });

  test('file extents are those that debugfs lists', async () => {
    for (const type of ['ext2', 'ext4']) {
      const image = join(folder, 'image');
      makeDirtyImage(image, IMAGE_BYTES);
      run('mke2fs', ['-q', '-F', '-t', type, '-b', '1024', '-d', tree, image]);
      const map = await mapOf(image);
      const files = map.fileExtents;
      assert.ok(files !== undefined);
      const ours = new Map<number, number>();
      for (let i = 0; i < files.diskOffsets.length; i++) {
        const blocks = (files.lengths[i] ?? 0) / 1024;
        for (let b = 0; b < blocks; b++) {
          ours.set((files.diskOffsets[i] ?? 0) / 1024 + b, (files.fileOffsets[i] ?? 0) / 1024 + b);
        }
      }
      const names = ['/etc/sparse', '/etc/deep/er/large', '/etc/file-of-70000', '/many', '/'];
      for (const name of names) {
        // `blocks` lists the blocks of a file in order, those of its tree among them.
        const listed = run('debugfs', ['-R', `blocks ${name}`, image])
          .trim()
          .split(' ')
          .map(Number);
        const data = listed.filter((block) => ours.has(block));
        assert.ok(
          data.length >= Math.floor(listed.length * 0.9),
          `${name}: ${data.length} of ${listed.length}`,
        );
        const offsets = data.map((block) => ours.get(block) ?? -1);
        assert.deepEqual(
          offsets,
          offsets.toSorted((a, b) => a - b),
          name,
        );
      }
    }
  });
});

/** Removes files; debugfs does not keep every counter, so e2fsck settles them. */
function makeGaps(image: string): void {
  run('debugfs', ['-w', '-f', '-', image], 'rm /many/name-0\nrm /etc/file-of-70000\n');
  settle(image);
}

function settle(image: string): void {
  run('sh', ['-c', 'e2fsck -fy "$1" || [ $? -le 1 ]', 'sh', image]);
}

async function mapOf(image: string): Promise<DiskMap> {
  using reader = openImage(image);
  return await readDiskMap(reader);
}

function usedOf(image: string, sizeBytes: number) {
  const { blockBytes, clusterBlocks, blocks } = geometryOf(image);
  const used: { offsetBytes: number; lengthBytes: number }[] = [];
  let at = 0;
  for (const [first, end] of freeBlocksOf(image, clusterBlocks)) {
    const start = first * blockBytes;
    if (start > at) used.push({ offsetBytes: at, lengthBytes: start - at });
    at = Math.max(at, Math.min(end, blocks) * blockBytes);
  }
  if (at < sizeBytes) used.push({ offsetBytes: at, lengthBytes: sizeBytes - at });
  return used;
}

function assertSameFiles(folder: string, image: string, masked: string): void {
  const dump = (source: string, name: string): string => {
    const target = join(folder, name);
    mkdirSync(target);
    run('debugfs', ['-R', `rdump / ${target}`, source]);
    return target;
  };
  const before = dump(image, 'before');
  const after = dump(masked, 'after');
  run('diff', ['-r', '--no-dereference', before, after]);
  assert.notEqual(run('ls', [join(after, 'many')]), '');
  rmSync(before, { recursive: true });
  rmSync(after, { recursive: true });
}
