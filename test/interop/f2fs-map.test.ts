import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { readDiskMap, totalBytes } from '../../src/bytes/index.ts';
import {
  copyMasked,
  makeDirtyImage,
  makeTree,
  missingFrom,
  missingTools,
  openImage,
  partcloneExtents,
  run,
} from './disk-image.ts';

const MIB = 1024 * 1024;
const missing = missingTools('mkfs.f2fs', 'sload.f2fs', 'fsck.f2fs', 'partclone.f2fs');

const VARIANTS: Readonly<Record<string, readonly string[]>> = {
  'as it is made by default': [],
  'checksums of inodes and superblock': ['-O', 'extra_attr,inode_checksum,sb_checksum'],
  'a large bitmap of nodes': ['-i'],
  'sections of 4 segments': ['-s', '4'],
  'encrypt, verity, compression': ['-O', 'encrypt,verity,extra_attr,compression'],
};

describe('maps of f2fs', {
  skip: missing.length > 0 ? `not installed: ${missing.join(', ')}` : false,
}, () => {
  let folder = '';
  let tree = '';
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'ingot-f2fs-map-'));
    tree = join(folder, 'tree');
    mkdirSync(tree);
    makeTree(tree);
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  /** Makes a filesystem with files; its checkpoint holds a journal of the segment table. */
  function makeImage(options: readonly string[]): string {
    const image = join(folder, 'image');
    makeDirtyImage(image, 40 * MIB);
    truncateSync(image, 200 * MIB);
    run('mkfs.f2fs', ['-q', '-f', '-t', '0', ...options, image]);
    run('sload.f2fs', ['-f', tree, image]);
    return image;
  }

  for (const [name, options] of Object.entries(VARIANTS)) {
    test(`${name}: equal to partclone, and the masked copy is clean`, async () => {
      const image = makeImage(options);
      using reader = openImage(image);
      const map = await readDiskMap(reader);
      assert.deepEqual(map.notices, []);
      assert.equal(map.filesystem, 'f2fs');
      // partclone does not know large bitmaps; fsck does.
      if (!options.includes('-i')) {
        const theirs = partcloneExtents('f2fs', image, join(folder, 'domain'));
        assert.deepEqual(missingFrom(theirs, map.allocated), []);
        assert.deepEqual(missingFrom(map.allocated, theirs), []);
      }
      assert.ok(totalBytes(map.allocated) < 64 * MIB);
      const masked = join(folder, 'masked');
      copyMasked(image, masked, map.allocated);
      assert.match(run('fsck.f2fs', ['--dry-run', masked]), /valid_block_count matching.*Ok/);
    });
  }

  test('a new filesystem, whose segment table is all in the journal', async () => {
    const image = join(folder, 'image');
    makeDirtyImage(image, 40 * MIB);
    truncateSync(image, 128 * MIB);
    run('mkfs.f2fs', ['-q', '-f', '-t', '0', image]);
    using reader = openImage(image);
    const map = await readDiskMap(reader);
    assert.deepEqual(map.notices, []);
    const theirs = partcloneExtents('f2fs', image, join(folder, 'domain'));
    assert.deepEqual(missingFrom(theirs, map.allocated), []);
    assert.deepEqual(missingFrom(map.allocated, theirs), []);
  });

  test('jfs and reiserfs are known by name and copied whole', async () => {
    const cases = [
      ['jfs', 32_768, 'JFS1'],
      ['reiserfs', 65_588, 'ReIsEr2Fs'],
    ] as const;
    for (const [name, offset, magic] of cases) {
      const bytes = Buffer.alloc(MIB);
      bytes.write(magic, offset);
      const reader = {
        sizeBytes: bytes.length,
        read: (at: number, length: number) => Promise.resolve(bytes.subarray(at, at + length)),
      };
      const map = await readDiskMap(reader);
      assert.equal(map.filesystem, name);
      assert.deepEqual(map.allocated, [{ offsetBytes: 0, lengthBytes: MIB }]);
      assert.deepEqual(map.notices, [`${name} is not known: everything is copied`]);
    }
  });
});
