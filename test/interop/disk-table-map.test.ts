import assert from 'node:assert/strict';
import { closeSync, mkdirSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type DiskMap, type Extent, readDiskMap, totalBytes } from '../../src/bytes/index.ts';
import {
  copyMasked,
  makeDirtyImage,
  makeTree,
  missingTools,
  openImage,
  run,
} from './disk-image.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const missing = missingTools('sfdisk', 'mkfs.vfat', 'fsck.fat', 'mcopy', 'mkswap', 'mke2fs');

interface Part {
  readonly offsetBytes: number;
  readonly sizeBytes: number;
}

/** Copies a part of one file into another. */
function copyPart(source: string, from: number, target: string, to: number, length: number): void {
  const input = openSync(source, 'r');
  const output = openSync(target, 'r+');
  const buffer = Buffer.alloc(MIB);
  for (let done = 0; done < length; ) {
    const got = readSync(input, buffer, 0, Math.min(MIB, length - done), from + done);
    writeSync(output, buffer, 0, got, to + done);
    done += got;
  }
  closeSync(input);
  closeSync(output);
}

const covers = (extents: readonly Extent[], offset: number, length: number): boolean =>
  extents.some((e) => e.offsetBytes <= offset && offset + length <= e.offsetBytes + e.lengthBytes);

describe('maps of partitioned disks', {
  skip: missing.length > 0 ? `not installed: ${missing.join(', ')}` : false,
}, () => {
  let folder = '';
  let tree = '';
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'ingot-disk-map-'));
    tree = join(folder, 'tree');
    mkdirSync(tree);
    makeTree(tree, { links: false });
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  /** Fills a partition of a disk with what `make` writes to a file of its own. */
  function fill(disk: string, part: Part, make: (file: string) => void): void {
    const file = join(folder, 'part');
    makeDirtyImage(file, part.sizeBytes);
    make(file);
    copyPart(file, 0, disk, part.offsetBytes, part.sizeBytes);
    rmSync(file);
  }

  function cut(disk: string, part: Part, name: string): string {
    const file = join(folder, name);
    makeDirtyImage(file, part.sizeBytes);
    copyPart(disk, part.offsetBytes, file, 0, part.sizeBytes);
    return file;
  }

  const makeExt = (file: string): void => {
    run('mke2fs', ['-q', '-F', '-t', 'ext4', '-E', 'nodiscard', '-d', tree, file]);
  };
  const makeFat =
    (...options: string[]) =>
    (file: string): void => {
      run('mkfs.vfat', [...options, file]);
      run('mcopy', ['-s', '-i', file, join(tree, 'etc'), join(tree, 'many'), '::/']);
      run('mdel', ['-i', file, '::/etc/file-of-70000']);
    };
  const makeSwap = (file: string): void => {
    run('mkswap', ['-L', 'swap-label', file]);
  };

  async function mapOf(disk: string): Promise<DiskMap> {
    using reader = openImage(disk);
    return await readDiskMap(reader);
  }

  async function checkMasked(disk: string, map: DiskMap): Promise<string> {
    const masked = join(folder, 'masked');
    copyMasked(disk, masked, map.allocated);
    const dump = (file: string): string => run('sfdisk', ['--dump', file]).replaceAll(file, '');
    assert.equal(dump(masked), dump(disk));
    for (const partition of map.partitions) {
      if (partition.filesystem === 'ext4') run('e2fsck', ['-fn', cut(masked, partition, 'ext')]);
      if (partition.filesystem === 'vfat') {
        const [before, after] = [cut(disk, partition, 'fat-1'), cut(masked, partition, 'fat-2')];
        run('fsck.fat', ['-n', after]);
        const files = (image: string, name: string): string => {
          const target = join(folder, name);
          mkdirSync(target);
          run('mcopy', ['-s', '-n', '-i', image, '::/etc', '::/many', target]);
          return target;
        };
        run('diff', ['-r', files(before, 'files-1'), files(after, 'files-2')]);
        rmSync(join(folder, 'files-1'), { recursive: true });
        rmSync(join(folder, 'files-2'), { recursive: true });
      }
    }
    return masked;
  }

  test('GPT: each partition is mapped by its filesystem', async () => {
    const disk = join(folder, 'disk');
    makeDirtyImage(disk, 96 * MIB);
    const script = [
      'label: gpt',
      'start=2MiB, size=16MiB, type=U',
      'start=18MiB, size=16MiB, type=S',
      'start=34MiB, size=40MiB, type=L',
      'start=80MiB, size=4MiB, type=L',
    ].join('\n');
    run('sfdisk', ['-q', '--no-tell', disk], script);
    fill(disk, { offsetBytes: 2 * MIB, sizeBytes: 16 * MIB }, makeFat());
    fill(disk, { offsetBytes: 18 * MIB, sizeBytes: 16 * MIB }, makeSwap);
    fill(disk, { offsetBytes: 34 * MIB, sizeBytes: 40 * MIB }, makeExt);
    const map = await mapOf(disk);
    assert.equal(map.filesystem, 'disk');
    assert.deepEqual(
      map.partitions.map((p) => [p.number, p.offsetBytes / MIB, p.sizeBytes / MIB, p.filesystem]),
      [
        [1, 2, 16, 'vfat'],
        [2, 18, 16, 'swap'],
        [3, 34, 40, 'ext4'],
        [4, 80, 4, undefined],
      ],
    );
    assert.deepEqual(map.notices, ['partition 4: no known filesystem: everything is copied']);
    assert.ok(covers(map.allocated, 0, 2 * MIB), 'what lies before the first partition');
    assert.ok(covers(map.allocated, 74 * MIB, 22 * MIB), 'gaps and what is unknown');
    assert.ok(!covers(map.allocated, 20 * MIB, 1), 'the inside of the swap area');
    assert.ok(totalBytes(map.allocated) < 64 * MIB);
    await checkMasked(disk, map);
  });

  test('MBR with logical partitions, one at an odd sector: files have offsets of the disk', async () => {
    const disk = join(folder, 'disk');
    makeDirtyImage(disk, 96 * MIB);
    const odd = 63 * 512 + 40 * MIB;
    const script = [
      'label: dos',
      'start=63, size=30720, type=c, bootable',
      'start=20MiB, size=75MiB, type=f',
      'start=21MiB, size=16MiB, type=82',
      `start=${odd / 512}, size=${(40 * MIB) / 512}, type=83`,
    ].join('\n');
    run('sfdisk', ['-q', '--no-tell', disk], script);
    fill(disk, { offsetBytes: 63 * 512, sizeBytes: 30_720 * 512 }, makeFat('-F', '16'));
    fill(disk, { offsetBytes: 21 * MIB, sizeBytes: 16 * MIB }, makeSwap);
    fill(disk, { offsetBytes: odd, sizeBytes: 40 * MIB }, makeExt);
    const map = await mapOf(disk);
    assert.deepEqual(
      map.partitions.map((p) => [p.number, p.offsetBytes, p.filesystem]),
      [
        [1, 63 * 512, 'vfat'],
        [5, 21 * MIB, 'swap'],
        [6, odd, 'ext4'],
      ],
    );
    assert.deepEqual(map.notices, []);
    const masked = await checkMasked(disk, map);
    assert.ok(totalBytes(map.allocated) < 60 * MIB);
    const files = map.fileExtents;
    assert.ok(files !== undefined && files.diskOffsets.length > 10);
    for (const offset of files.diskOffsets) {
      assert.equal((offset - odd) % 1024, 0);
      assert.ok(offset > odd && offset < odd + 40 * MIB);
    }
    rmSync(masked);
  });

  for (const options of [
    ['-F', '12', '-s', '64'],
    ['-F', '16', '-s', '4'],
    ['-F', '32', '-s', '1'],
  ]) {
    test(`FAT made with ${options.join(' ')} on a bare disk keeps its files`, async () => {
      const disk = join(folder, 'fat');
      makeDirtyImage(disk, 40 * MIB);
      makeFat(...options)(disk);
      const map = await mapOf(disk);
      assert.equal(map.filesystem, 'vfat');
      assert.deepEqual(map.notices, []);
      assert.ok(totalBytes(map.allocated) < 16 * MIB, `${totalBytes(map.allocated)} bytes`);
      const masked = join(folder, 'masked-fat');
      copyMasked(disk, masked, map.allocated);
      run('fsck.fat', ['-n', masked]);
      const target = join(folder, 'fat-files');
      mkdirSync(target);
      run('mcopy', ['-s', '-n', '-i', masked, '::/etc', '::/many', target]);
      run('diff', [join(target, 'etc/deep/er/large'), join(tree, 'etc/deep/er/large')]);
      run('diff', ['-r', join(target, 'many'), join(tree, 'many')]);
      rmSync(target, { recursive: true });
    });
  }
});
