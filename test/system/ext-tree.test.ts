import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import {
  closeSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { ExtTree } from '../../src/bytes/index.ts';
import { compareTrees } from '../interop/compare-trees.ts';
import { openImage } from '../interop/disk-image.ts';

/** Writes what the kernel lays out in ways of its own. */
function fill(root: string): void {
  for (const length of [0, 1, 59, 60, 61, 100, 130, 160, 4000]) {
    writeFileSync(join(root, `length ${length}`), 'abcdefg'.repeat(600).slice(0, length));
  }
  for (const names of [1, 3, 6, 9, 700]) {
    mkdirSync(join(root, `folder ${names}`));
    for (let i = 0; i < names; i++) writeFileSync(join(root, `folder ${names}`, `n${i}`), `${i}`);
  }
  for (const length of [20, 59, 60, 61, 200]) {
    symlinkSync('l'.repeat(length), join(root, `link ${length}`));
  }
  const preallocated = join(root, 'preallocated');
  writeFileSync(preallocated, 'head');
  // ext2 and ext3 cannot; there it stays a small file.
  spawnSync('fallocate', ['--length', '600000', preallocated]);
  const fragments = openSync(join(root, 'fragments'), 'w');
  for (let i = 0; i < 400; i++) writeSync(fragments, `piece ${i}`, i * 12_288);
  closeSync(fragments);
}

describe('reading files that the kernel wrote', () => {
  for (const [name, options] of [
    ['ext4', ['-t', 'ext4']],
    ['ext4 with inline data', ['-t', 'ext4', '-O', 'inline_data', '-I', '256']],
    ['ext3', ['-t', 'ext3']],
    ['ext2 with blocks of 1 KiB', ['-t', 'ext2', '-b', '1024']],
  ] as const) {
    test(`${name}: every file, link and directory is there with its bytes`, async () => {
      const folder = mkdtempSync(join(tmpdir(), 'ingot-kernel-tree-'));
      try {
        const image = join(folder, 'image');
        const mountPoint = join(folder, 'mounted');
        mkdirSync(mountPoint);
        writeFileSync(image, '');
        truncateSync(image, 32 * 1024 * 1024);
        execFileSync('mke2fs', ['-q', '-F', ...options, image]);
        execFileSync('mount', ['-o', 'loop', image, mountPoint]);
        try {
          fill(mountPoint);
          cpSync(mountPoint, join(folder, 'copy'), {
            recursive: true,
            preserveTimestamps: true,
            verbatimSymlinks: true,
          });
        } finally {
          execFileSync('umount', [mountPoint]);
        }
        rmSync(join(folder, 'copy/lost+found'), { recursive: true });
        using reader = openImage(image);
        const tree = await ExtTree.open(reader, { offsetBytes: 0, sizeBytes: reader.sizeBytes });
        assert.ok(tree !== undefined);
        assert.equal(await compareTrees(tree, await tree.root(), join(folder, 'copy')), 740);
      } finally {
        rmSync(folder, { recursive: true });
      }
    });
  }
});
