import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { MetadataReader } from '../../src/bytes/filesystems/metadata-reader.ts';
import { readXfsMap } from '../../src/bytes/filesystems/xfs/xfs-map.ts';
import { type Extent, readDiskMap } from '../../src/bytes/index.ts';
import { copyMasked, makeTree, missingTools, openImage, run } from './disk-image.ts';

const MIB = 1024 * 1024;
/** The smallest that mkfs.xfs makes. */
const IMAGE_BYTES = 320 * MIB;
const missing = missingTools('mkfs.xfs', 'xfs_db', 'xfs_repair');

const VARIANTS: Readonly<Record<string, readonly string[]>> = {
  'version 5 as it is made by default': [],
  'version 5 with reflink and rmapbt': ['-m', 'reflink=1,rmapbt=1'],
  'version 5 without finobt and sparse inodes': ['-m', 'finobt=0,reflink=0', '-i', 'sparse=0'],
  'version 5, 1 KiB blocks': ['-b', 'size=1024', '-m', 'rmapbt=1'],
  'version 5, 4 KiB sectors, inodes of 2 KiB': ['-s', 'size=4096', '-i', 'size=2048'],
  'version 5 with wide extent counts': ['-i', 'nrext64=1'],
  'version 5, directory blocks of 16 KiB': ['-n', 'size=16384'],
  'version 4': ['-m', 'crc=0'],
  'version 4, 512 byte blocks': ['-m', 'crc=0', '-b', 'size=512'],
  'version 4, 2 groups of odd size': ['-m', 'crc=0', '-d', 'agcount=2,size=330000k'],
};

/** Free blocks of the filesystem as xfs_db lists them, in bytes, without the groups' free lists. */
function freeOf(image: string, groupBlocks: number, blockBytes: number): Extent[] {
  const free: Extent[] = [];
  const kept = new Set<string>();
  for (const line of run('xfs_db', ['-r', '-c', 'sb 0', '-c', 'p agcount', image]).split('\n')) {
    const groups = Number(/agcount = (\d+)/.exec(line)?.[1] ?? 0);
    for (let group = 0; group < groups; group++) {
      for (const block of freeListOf(image, group)) kept.add(`${group}:${block}`);
    }
  }
  for (const line of run('xfs_db', ['-r', '-c', 'freesp -d', image]).split('\n')) {
    const [group, block, length] = line.trim().split(/\s+/).map(Number);
    if (group === undefined || block === undefined || length === undefined) continue;
    if (
      Number.isNaN(group) ||
      line.includes('.') ||
      (length === 1 && kept.has(`${group}:${block}`))
    ) {
      continue;
    }
    const offsetBytes = (group * groupBlocks + block) * blockBytes;
    free.push({ offsetBytes, lengthBytes: length * blockBytes });
    if (line.includes('from')) break;
  }
  return free;
}

/** The blocks that a group keeps for its own trees (AGFL): free, but copied. */
function freeListOf(image: string, group: number): number[] {
  const agf = run('xfs_db', ['-r', '-c', `agf ${group}`, '-c', 'p flfirst fllast flcount', image]);
  const [first, last, count] = [...agf.matchAll(/= (\d+)/g)].map((match) => Number(match[1]));
  if (first === undefined || last === undefined || count === 0) return [];
  const text = run('xfs_db', ['-r', '-c', `agfl ${group}`, '-c', `p bno[${first}-${last}]`, image]);
  const blocks: number[] = [];
  for (const match of text.matchAll(/(\d+):(\d+)/g)) blocks.push(Number(match[2]));
  return blocks;
}

describe('maps of XFS', {
  skip: missing.length > 0 ? `not installed: ${missing.join(', ')}` : false,
}, () => {
  let folder = '';
  let prototype = '';
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'ingot-xfs-map-'));
    const tree = join(folder, 'tree');
    mkdirSync(tree);
    makeTree(tree, { links: false });
    const lines = ['/none', '0 0', 'd--755 0 0'];
    for (const name of ['etc', 'many']) {
      lines.push(`${name} d--755 0 0`);
      for (const entry of readdirSync(join(tree, name), { withFileTypes: true })) {
        if (entry.isFile()) lines.push(`${entry.name} ---644 0 0 ${join(tree, name, entry.name)}`);
      }
      lines.push('$');
    }
    lines.push('$');
    prototype = join(folder, 'prototype');
    writeFileSync(prototype, `${lines.join('\n')}\n`);
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  for (const [name, options] of Object.entries(VARIANTS)) {
    test(`${name}: equal to xfs_db, and the masked copy is clean`, async () => {
      const image = join(folder, 'image');
      rmSync(image, { force: true });
      writeFileSync(image, '');
      truncateSync(image, IMAGE_BYTES + 16 * MIB);
      run('mkfs.xfs', ['-q', '-f', '-p', prototype, ...options, image]);
      const info = run('xfs_db', ['-r', '-c', 'sb 0', '-c', 'p agblocks blocksize', image]);
      const [groupBlocks, blockBytes] = [...info.matchAll(/= (\d+)/g)].map((m) => Number(m[1]));
      assert.ok(groupBlocks !== undefined && blockBytes !== undefined);

      using reader = openImage(image);
      const disk = new MetadataReader(reader, { offsetBytes: 0, sizeBytes: reader.sizeBytes });
      const exact = await readXfsMap(disk, { state: 'at-rest', dropsStale: false });
      assert.deepEqual(exact.notices, []);
      const free = freeOf(image, groupBlocks, blockBytes);
      assert.ok(free.length > 0);
      assert.deepEqual(holesOf([...exact.allocated.extents()], reader.sizeBytes), joined(free));

      const map = await readDiskMap(reader);
      assert.deepEqual(map.notices, []);
      assert.ok((map.fileExtents?.diskOffsets.length ?? 0) > 100);
      const masked = join(folder, 'masked');
      copyMasked(image, masked, map.allocated);
      run('xfs_repair', ['-n', '-f', masked]);
    });
  }
});

function joined(extents: readonly Extent[]): Extent[] {
  const result: Extent[] = [];
  for (const next of extents.toSorted((a, b) => a.offsetBytes - b.offsetBytes)) {
    const last = result.at(-1);
    if (last !== undefined && last.offsetBytes + last.lengthBytes === next.offsetBytes) {
      const lengthBytes = last.lengthBytes + next.lengthBytes;
      result[result.length - 1] = { offsetBytes: last.offsetBytes, lengthBytes };
    } else {
      result.push(next);
    }
  }
  return result;
}

function holesOf(extents: readonly Extent[], sizeBytes: number): Extent[] {
  const holes: Extent[] = [];
  let at = 0;
  for (const { offsetBytes, lengthBytes } of extents) {
    if (offsetBytes > at) holes.push({ offsetBytes: at, lengthBytes: offsetBytes - at });
    at = offsetBytes + lengthBytes;
  }
  if (at < sizeBytes) holes.push({ offsetBytes: at, lengthBytes: sizeBytes - at });
  return holes;
}
