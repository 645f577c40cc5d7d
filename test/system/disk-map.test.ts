import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { type DiskMap, type FileExtents, readDiskMap, totalBytes } from '../../src/bytes/index.ts';
import { copyMasked, makeTree, openImage } from '../interop/disk-image.ts';
import { differences, type LoopKind, loopFilesystem, run, treeOf } from './loop-filesystem.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const SECRET = 'deleted before the snapshot';

interface Case {
  readonly kind: LoopKind;
  readonly mkfsOptions?: readonly string[];
  readonly mountOption?: string;
  readonly sizeMiB: number;
}

const CASES: Readonly<Record<string, Case>> = {
  'ext4 as it is made by default': { kind: 'ext4', sizeMiB: 64 },
  'ext4, 4 KiB blocks, orphan_file': {
    kind: 'ext4',
    sizeMiB: 64,
    mkfsOptions: ['-b', '4096', '-O', 'orphan_file'],
  },
  'ext4 with bigalloc': {
    kind: 'ext4',
    sizeMiB: 64,
    mkfsOptions: ['-b', '4096', '-O', 'bigalloc'],
  },
  'ext4 with inline_data and meta_bg': {
    kind: 'ext4',
    sizeMiB: 64,
    mkfsOptions: ['-O', 'inline_data,meta_bg,^resize_inode'],
  },
  'ext4 without journal': { kind: 'ext4', sizeMiB: 64, mkfsOptions: ['-O', '^has_journal'] },
  'ext3-like block maps': {
    kind: 'ext4',
    sizeMiB: 64,
    mkfsOptions: ['-O', '^extents,^64bit,^metadata_csum,^flex_bg'],
  },
  'xfs with reflink and rmapbt': { kind: 'xfs', sizeMiB: 320, mkfsOptions: ['-m', 'rmapbt=1'] },
  btrfs: { kind: 'btrfs', sizeMiB: 192 },
  'btrfs, compressed': { kind: 'btrfs', sizeMiB: 192, mountOption: 'compress-force=zstd' },
  'btrfs, mixed': { kind: 'btrfs', sizeMiB: 192, mkfsOptions: ['--mixed'] },
};

/** Uses a filesystem as a machine does: files come, grow in turns, are copied and deleted. */
function churn(folder: string, kind: LoopKind): void {
  const old = join(folder, 'old');
  mkdirSync(old);
  for (let i = 0; i < 40; i++) writeFileSync(join(old, `${i}`), SECRET.repeat(8 * KIB));
  run('sync', '-f', folder);
  const tree = join(folder, 'tree');
  mkdirSync(tree);
  makeTree(tree);
  const files = ['first', 'second'].map((name) => openSync(join(folder, name), 'w'));
  for (let round = 0; round < 40; round++) {
    for (const [i, file] of files.entries()) {
      writeSync(file, Buffer.alloc(12 * KIB, round * 2 + i + 1), 0, 12 * KIB, round * 20 * KIB);
      fsyncSync(file);
    }
  }
  for (const file of files) closeSync(file);
  // Block maps have no unwritten extents.
  spawnSync('fallocate', ['-l', '3MiB', join(folder, 'reserved')]);
  if (kind !== 'ext4')
    run('cp', '--reflink=always', join(tree, 'etc/deep/er/large'), join(folder, 'clone'));
  rmSync(old, { recursive: true });
  run('sync', '-f', folder);
}

/** Tells where in which file each KiB of the disk is, as the kernel answers. */
function assertListed(files: FileExtents, path: string): void {
  const text = run('filefrag', '-v', '-b1024', path);
  const rows = text.matchAll(/^ *\d+: +(\d+)\.\. *\d+: +(\d+)\.\. *\d+: +(\d+):(.*)$/gm);
  let rowCount = 0;
  for (const [, logical, physical, length, flags] of rows) {
    if (flags?.includes('unwritten') === true) continue;
    rowCount += 1;
    for (let block = 0; block < Number(length); block++) {
      const at = (Number(physical) + block) * KIB;
      const found = fileOffsetAt(files, at);
      assert.equal(found, (Number(logical) + block) * KIB, `${path} at ${at}`);
    }
  }
  assert.ok(rowCount > 0, path);
}

function fileOffsetAt(files: FileExtents, offset: number): number | undefined {
  for (let i = 0; i < files.diskOffsets.length; i++) {
    const within = offset - (files.diskOffsets[i] ?? 0);
    if (within >= 0 && within < (files.lengths[i] ?? 0))
      return (files.fileOffsets[i] ?? 0) + within;
  }
  return undefined;
}

function check(kind: LoopKind, image: string): void {
  if (kind === 'ext4') run('e2fsck', '-fn', image);
  if (kind === 'xfs') run('xfs_repair', '-n', image);
  if (kind === 'btrfs') run('btrfs', 'check', '--check-data-csum', image);
}

function holds(path: string, text: string): boolean {
  const file = openSync(path, 'r');
  try {
    const piece = Buffer.alloc(4 * MIB);
    for (let at = 0; ; at += piece.length - 64) {
      const got = readSync(file, piece, 0, piece.length, at);
      if (got === 0) return false;
      if (piece.subarray(0, got).includes(text)) return true;
      if (got < piece.length) return false;
    }
  } finally {
    closeSync(file);
  }
}

describe('a map of a mounted filesystem', () => {
  for (const [name, { kind, sizeMiB, mkfsOptions = [], mountOption }] of Object.entries(CASES)) {
    test(`${name}: frozen, its masked copy has every file and nothing that was deleted`, async () => {
      using filesystem = loopFilesystem({ kind, sizeMiB, mkfsOptions });
      const { mountPoint, image, scratch } = filesystem;
      if (mountOption !== undefined) run('mount', '-o', `remount,${mountOption}`, mountPoint);
      churn(mountPoint, kind);
      const before = treeOf(mountPoint);
      run('fsfreeze', '--freeze', mountPoint);
      let map: DiskMap;
      const masked = join(scratch, 'masked.img');
      try {
        using reader = openImage(image);
        map = await readDiskMap(reader, { state: 'frozen' });
        copyMasked(image, masked, map.allocated);
        if (!mkfsOptions.includes('^has_journal')) {
          // A copy of the frozen device is as good: it says itself that it is clean.
          const atRest = await readDiskMap(reader);
          assert.deepEqual(atRest.notices, []);
          assert.deepEqual(atRest.allocated, map.allocated);
        }
        if (kind !== 'btrfs') {
          assert.ok(map.fileExtents !== undefined);
          for (const file of ['first', 'second', 'tree/etc/sparse', 'tree/etc/deep/er/large']) {
            assertListed(map.fileExtents, join(mountPoint, file));
          }
        }
      } finally {
        run('fsfreeze', '--unfreeze', mountPoint);
      }
      assert.deepEqual(map.notices, []);
      assert.ok(holds(image, SECRET));
      assert.ok(!holds(masked, SECRET));
      assert.ok(totalBytes(map.allocated) < 110 * MIB);
      // Two mounted filesystems of one UUID do not get on.
      run('umount', mountPoint);
      const folder = filesystem.mountImage(masked, 'loop');
      assert.deepEqual(differences(treeOf(folder), before), []);
      filesystem.unmountImages();
      check(kind, masked);
      run('mount', '-o', 'loop', image, mountPoint);
    });
  }

  for (const kind of ['ext4', 'xfs'] as const) {
    test(`${kind}: mounted and not frozen, everything is copied`, async () => {
      const sizeMiB = kind === 'xfs' ? 320 : 64;
      using filesystem = loopFilesystem({ kind, sizeMiB });
      churn(filesystem.mountPoint, kind);
      using reader = openImage(filesystem.image);
      const map = await readDiskMap(reader);
      assert.deepEqual(map.allocated, [{ offsetBytes: 0, lengthBytes: sizeMiB * MIB }]);
      assert.match(map.notices.join(), /needs recovery: everything is copied/);
    });
  }
});
