import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { IngotError, MIB } from '../../src/base/index.ts';
import { type ByteReader, ExtTree, lookUp } from '../../src/bytes/index.ts';
import { walkTree } from '../support/walk-tree.ts';
import { compareTrees } from './compare-trees.ts';
import { openImage, run } from './disk-image.ts';

const hasMke2fs = spawnSync('mke2fs', ['-V']).status === 0;
const folder = mkdtempSync(join(tmpdir(), 'ingot-tree-'));
const source = join(folder, 'source');
after(() => rmSync(folder, { recursive: true }));

function makeSource(): void {
  mkdirSync(join(source, 'etc/deep/deeper'), { recursive: true });
  mkdirSync(join(source, 'empty'));
  mkdirSync(join(source, 'many'));
  writeFileSync(join(source, 'etc/hostname'), 'golden\n');
  writeFileSync(join(source, 'etc/empty'), '');
  writeFileSync(join(source, 'etc/inline'), 'x'.repeat(130));
  writeFileSync(join(source, 'etc/deep/deeper/Größe mit Leerzeichen'), 'ü');
  const large = Buffer.alloc(3 * MIB + 333);
  for (let at = 0; at < large.length - 4; at += 64) large.writeUInt32LE(at, at);
  writeFileSync(join(source, 'large'), large);
  writeFileSync(join(source, 'sparse'), 'start');
  truncateSync(join(source, 'sparse'), 2 * MIB);
  symlinkSync('etc/hostname', join(source, 'short'));
  symlinkSync(`etc/${'long/'.repeat(40)}end`, join(source, 'long'));
  linkSync(join(source, 'etc/hostname'), join(source, 'etc/hardlink'));
  for (let i = 0; i < 900; i++) {
    writeFileSync(join(source, 'many', `file number ${i} with a rather long name`), String(i));
  }
  utimesSync(join(source, 'etc/hostname'), 1_700_000_000, 1_700_000_000.25);
}

const FEATURE_SETS: Readonly<Record<string, readonly string[]>> = {
  'ext2 with blocks of 1 KiB': ['-t', 'ext2', '-b', '1024'],
  'ext2 with inodes of 128 bytes': ['-t', 'ext2', '-I', '128'],
  ext3: ['-t', 'ext3'],
  ext4: ['-t', 'ext4'],
  'ext4 with blocks of 1 KiB': ['-t', 'ext4', '-b', '1024'],
  'ext4 with blocks of 2 KiB and no checksums': [
    '-t',
    'ext4',
    '-b',
    '2048',
    '-O',
    '^metadata_csum',
  ],
  'ext4 without extents': ['-t', 'ext4', '-O', '^extents,^64bit'],
  'ext4 with bigalloc': ['-t', 'ext4', '-O', 'bigalloc', '-C', '16384'],
  'ext4 without file types and journal': ['-t', 'ext4', '-O', '^filetype,^has_journal'],
  'ext4 with meta_bg and no flex_bg': ['-t', 'ext4', '-O', 'meta_bg,^resize_inode,^flex_bg'],
};

describe('reading files of ext filesystems', {
  skip: hasMke2fs ? false : 'mke2fs is missing',
}, () => {
  const image = join(folder, 'image');

  before(makeSource);

  async function openTree(offsetBytes = 0): Promise<{ tree: ExtTree } & Disposable> {
    const reader = openImage(image);
    const sizeBytes = reader.sizeBytes - offsetBytes;
    const tree = await ExtTree.open(reader, { offsetBytes, sizeBytes });
    assert.ok(tree !== undefined);
    return { tree, [Symbol.dispose]: () => reader[Symbol.dispose]() };
  }

  for (const [name, options] of Object.entries(FEATURE_SETS)) {
    test(`${name}: every file, link and directory is there with its bytes`, async () => {
      rmSync(image, { force: true });
      run('mke2fs', ['-q', '-F', '-d', source, ...options, image, '40M']);
      using opened = await openTree();
      const { tree } = opened;
      assert.equal(await compareTrees(tree, await tree.root(), source), 914);
    });
  }

  test('a directory with an index is read whole', async () => {
    rmSync(image, { force: true });
    run('mke2fs', ['-q', '-F', '-t', 'ext4', '-b', '1024', '-d', source, image, '40M']);
    // 1: it has optimised directories, as it was asked to.
    assert.ok([0, 1].includes(spawnSync('e2fsck', ['-f', '-y', '-D', image]).status ?? 99));
    assert.match(run('debugfs', ['-R', 'htree_dump /many', image]), /Root node dump/);
    using opened = await openTree();
    assert.equal(await compareTrees(opened.tree, await opened.tree.root(), source), 914);
  });

  test('a name is looked up by its bytes', async () => {
    rmSync(image, { force: true });
    run('mke2fs', ['-q', '-F', '-t', 'ext4', '-d', source, image, '40M']);
    using opened = await openTree();
    const { tree } = opened;
    const root = await tree.root();
    const large = await lookUp(tree, root, Buffer.from('large'));
    assert.equal(large?.sizeBytes, 3 * MIB + 333);
    assert.equal(await lookUp(tree, root, Buffer.from('absent')), undefined);
  });

  test('bytes that were changed anywhere in the metadata never crash, hang or fill the memory', async () => {
    rmSync(image, { force: true });
    const options = ['-t', 'ext4', '-O', '^metadata_csum', '-N', '1024', '-b', '1024'];
    run('mke2fs', ['-q', '-F', ...options, '-d', join(source, 'etc'), image, '4M']);
    const good = readFileSync(image);
    let seed = 20_261_122;
    const random = (below: number): number => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
      return Math.floor((seed / 2 ** 32) * below);
    };
    let failures = 0;
    for (let round = 0; round < 300; round++) {
      const bad = Buffer.from(good);
      for (let i = 0; i < 60; i++) {
        const at = random(2) === 0 ? 1024 + random(4096) : random(400 * 1024);
        bad[at] = random(3) === 0 ? 0xff : random(256);
      }
      try {
        await walkAll(bad);
      } catch (thrown) {
        assert.ok(thrown instanceof IngotError, `round ${round}: ${String(thrown)}`);
        failures += 1;
      }
    }
    assert.ok(failures > 0, 'no change was noticed, so nothing was tested');
  });
});

async function walkAll(image: Buffer): Promise<void> {
  const reader: ByteReader = {
    sizeBytes: image.length,
    read: async (offset, length) => Buffer.from(image.subarray(offset, offset + length)),
  };
  const tree = await ExtTree.open(reader, { offsetBytes: 0, sizeBytes: image.length });
  if (tree !== undefined) await walkTree(tree);
}
