import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type Extent, readDiskMap } from '../../src/bytes/index.ts';
import {
  copyMasked,
  makeDirtyImage,
  makeTree,
  missingFrom,
  missingTools,
  openImage,
  run,
} from './disk-image.ts';

const MIB = 1024 * 1024;
const missing = missingTools('mkfs.btrfs', 'btrfs');

const VARIANTS: Readonly<Record<string, readonly string[]>> = {
  'as it is made by default, DUP metadata': [],
  'single metadata, no free space tree': ['-m', 'single', '-R', '^free-space-tree'],
  'DUP data': ['-d', 'dup'],
  'mixed groups, nodes of 4 KiB': ['--mixed', '-n', '4096'],
  'nodes of 64 KiB': ['-n', '65536'],
  'SHA-256 checksums': ['--csum', 'sha256'],
  'XXHASH checksums': ['--csum', 'xxhash'],
  'BLAKE2 checksums, explicit holes': ['--csum', 'blake2', '-O', '^no-holes'],
};

/** The first mebibyte, where no chunk lies, and the superblocks. */
const reservedBytes = (): Extent[] => [
  { offsetBytes: 0, lengthBytes: MIB },
  { offsetBytes: 64 * MIB, lengthBytes: 4096 },
];

/** Every copy of every extent, from what btrfs-progs prints of the chunk and the extent tree. */
function extentsOf(image: string): Extent[] {
  const dump = (tree: string): string =>
    run('btrfs', ['inspect-internal', 'dump-tree', '-t', tree, image]);
  const nodeBytes = Number(/nodesize\s+(\d+)/.exec(superblockOf(image))?.[1]);
  const chunks: { logical: number; length: number; stripes: number[] }[] = [];
  for (const item of dump('chunk').split(/^\titem /m)) {
    const logical = /CHUNK_ITEM (\d+)\)/.exec(item)?.[1];
    if (logical === undefined) continue;
    const stripes = [...item.matchAll(/stripe \d+ devid 1 offset (\d+)/g)].map((m) => Number(m[1]));
    const length = Number(/length (\d+)/.exec(item)?.[1]);
    chunks.push({ logical: Number(logical), length, stripes });
  }
  const extents: Extent[] = [];
  for (const match of dump('extent').matchAll(/key \((\d+) (EXTENT|METADATA)_ITEM (\d+)\)/g)) {
    const logical = Number(match[1]);
    const lengthBytes = match[2] === 'EXTENT' ? Number(match[3]) : nodeBytes;
    const chunk = chunks.find((c) => c.logical <= logical && logical < c.logical + c.length);
    for (const stripe of chunk?.stripes ?? []) {
      extents.push({ offsetBytes: stripe + logical - (chunk?.logical ?? 0), lengthBytes });
    }
  }
  return extents;
}

function superblockOf(image: string): string {
  return run('btrfs', ['inspect-internal', 'dump-super', image]);
}

describe('maps of btrfs', {
  skip: missing.length > 0 ? `not installed: ${missing.join(', ')}` : false,
}, () => {
  let folder = '';
  let tree = '';
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'ingot-btrfs-map-'));
    tree = join(folder, 'tree');
    mkdirSync(tree);
    makeTree(tree);
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  for (const [name, options] of Object.entries(VARIANTS)) {
    test(`${name}: equal to dump-tree, and the masked copy has every byte`, async () => {
      const image = join(folder, 'image');
      makeDirtyImage(image, 144 * MIB);
      run('mkfs.btrfs', ['-q', '-f', '-K', ...options, '--rootdir', tree, image]);
      using reader = openImage(image);
      const map = await readDiskMap(reader);
      assert.deepEqual(map.notices, []);
      const theirs = [...reservedBytes(), ...extentsOf(image)];
      assert.ok(theirs.length > 40);
      assert.deepEqual(missingFrom(theirs, map.allocated), []);
      assert.deepEqual(missingFrom(map.allocated, theirs), []);
      const masked = join(folder, 'masked');
      copyMasked(image, masked, map.allocated);
      run('btrfs', ['check', '--check-data-csum', masked]);
      assert.ok((map.fileExtents?.diskOffsets.length ?? 0) > 20);
    });
  }

  test('several devices are copied whole', async () => {
    const images = [join(folder, 'first'), join(folder, 'second')];
    for (const image of images) makeDirtyImage(image, 128 * MIB);
    run('mkfs.btrfs', ['-q', '-f', '-K', '-d', 'raid0', '-m', 'raid1', ...images]);
    using reader = openImage(images[0] ?? '');
    const map = await readDiskMap(reader);
    assert.deepEqual(map.allocated, [{ offsetBytes: 0, lengthBytes: 128 * MIB }]);
    assert.deepEqual(map.notices, ['btrfs: it has 2 devices: everything is copied']);
  });
});
