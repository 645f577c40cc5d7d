import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type ByteReader, type DiskMap, readDiskMap } from '../../src/bytes/index.ts';
import {
  makeDirtyImage,
  makeTree,
  missingFrom,
  missingTools,
  openImage,
  run,
} from './disk-image.ts';

const MIB = 1024 * 1024;
const TRIALS = 120;
const LINE_BYTES = 16;
const missing = missingTools(
  'mke2fs',
  'mkfs.xfs',
  'mkfs.btrfs',
  'mkfs.f2fs',
  'mkfs.vfat',
  'sfdisk',
);

/** Numbers that are the same for the same seed (mulberry32). */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

interface Mutation {
  readonly offset: number;
  readonly bytes: Buffer;
}

/** Reads an image with some bytes replaced, and counts what is read. */
class MutatedReader implements ByteReader {
  readonly sizeBytes: number;
  readBytes = 0;
  largestRead = 0;
  readonly #base: ByteReader;
  readonly #mutations: readonly Mutation[];

  constructor(base: ByteReader, mutations: readonly Mutation[]) {
    this.#base = base;
    this.#mutations = mutations;
    this.sizeBytes = base.sizeBytes;
  }

  async read(offset: number, length: number): Promise<Buffer> {
    this.readBytes += length;
    this.largestRead = Math.max(this.largestRead, length);
    const buffer = await this.#base.read(offset, length);
    for (const mutation of this.#mutations) {
      const from = Math.max(offset, mutation.offset);
      const to = Math.min(offset + length, mutation.offset + mutation.bytes.length);
      if (from < to) {
        mutation.bytes.copy(buffer, from - offset, from - mutation.offset, to - mutation.offset);
      }
    }
    return buffer;
  }
}

/** Where the structures of a disk are: every line of 16 bytes that was read and is not zero. */
async function structuresOf(base: ByteReader): Promise<number[]> {
  const lines = new Set<number>();
  const recorder: ByteReader = {
    sizeBytes: base.sizeBytes,
    read: async (offset, length) => {
      const buffer = await base.read(offset, length);
      for (let at = 0; at + LINE_BYTES <= length; at += LINE_BYTES) {
        if (!buffer.subarray(at, at + LINE_BYTES).every((byte) => byte === 0))
          lines.add(offset + at);
      }
      return buffer;
    },
  };
  await readDiskMap(recorder);
  return [...lines];
}

async function mutate(
  base: ByteReader,
  lines: readonly number[],
  heads: readonly number[],
  pick: (below: number) => number,
): Promise<Mutation[]> {
  const mutations: Mutation[] = [];
  for (let i = 0; i <= pick(3); i++) {
    // Half of them hit the superblock and its like, where a byte decides most.
    const line = pick(2) === 0 ? heads[pick(heads.length)] : lines[pick(lines.length)];
    const offset = (line ?? 0) + pick(LINE_BYTES);
    const length = [1, 1, 2, 4, 8, 512][pick(6)] ?? 1;
    const room = Math.min(length, base.sizeBytes - offset);
    const old = await base.read(offset, room);
    const bytes = Buffer.from(old);
    const kind = pick(5);
    if (kind === 0) bytes[0] = (bytes[0] ?? 0) ^ (1 << pick(8));
    else if (kind === 1) bytes.fill(0);
    else if (kind === 2) bytes.fill(0xff);
    else if (kind === 3) for (let at = 0; at < bytes.length; at++) bytes[at] = pick(256);
    else {
      const other = lines[pick(lines.length)] ?? 0;
      (await base.read(other, Math.min(room, base.sizeBytes - other))).copy(bytes);
    }
    mutations.push({ offset, bytes });
  }
  return mutations;
}

/** What holds for every map, whatever the disk says. */
function assertSound(map: DiskMap, sizeBytes: number): void {
  let end = -1;
  for (const { offsetBytes, lengthBytes } of map.allocated) {
    assert.ok(offsetBytes > end && lengthBytes > 0, 'extents ascend and do not touch');
    end = offsetBytes + lengthBytes;
  }
  assert.ok(end <= sizeBytes, 'extents lie inside the device');
  const files = map.fileExtents;
  if (files === undefined) return;
  let fileEnd = 0;
  for (let i = 0; i < files.diskOffsets.length; i++) {
    assert.ok((files.diskOffsets[i] ?? -1) >= fileEnd, 'file extents ascend without overlaps');
    assert.ok((files.lengths[i] ?? 0) > 0 && (files.fileOffsets[i] ?? -1) >= 0);
    fileEnd = (files.diskOffsets[i] ?? 0) + (files.lengths[i] ?? 0);
  }
  assert.ok(fileEnd <= sizeBytes);
}

describe('maps of disks with damaged structures', {
  skip: missing.length > 0 ? `not installed: ${missing.join(', ')}` : false,
}, () => {
  let folder = '';
  let tree = '';
  let image = '';
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'ingot-hostile-'));
    tree = join(folder, 'tree');
    image = join(folder, 'image');
    mkdirSync(tree);
    makeTree(tree);
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  /**
   * Reads the map of an image again and again, each time with other bytes replaced.
   *
   * @param losesNothing whether what the undamaged disk says is allocated must be in every map:
   *   where every structure has a checksum, or counts and copies that would have to be changed to
   *   match. The tables of FAT, f2fs and XFS 4 can be changed so that only they themselves would
   *   know: there the map must be sound, no more.
   */
  async function attack(losesNothing: boolean): Promise<void> {
    using base = openImage(image);
    const counting = new MutatedReader(base, []);
    const sane = await readDiskMap(counting);
    assert.deepEqual(sane.notices, []);
    const lines = await structuresOf(base);
    const heads = lines.filter((line) => line < 8192 || (line >= 65_536 && line < 66_560));
    let doubts = 0;
    for (let seed = 1; seed <= TRIALS; seed++) {
      const mutations = await mutate(base, lines, heads, random(seed));
      const reader = new MutatedReader(base, mutations);
      const what = `seed ${seed}, ${mutations.map((m) => `${m.bytes.length} at ${m.offset}`).join()}`;
      const started = process.cpuUsage();
      const map = await readDiskMap(reader);
      // Not by a clock on the wall: others may have the core.
      const { user, system } = process.cpuUsage(started);
      assert.ok(user + system < 10_000_000, `${what}: took too long`);
      assertSound(map, base.sizeBytes);
      assert.ok(reader.largestRead <= 16 * MIB, what);
      assert.ok(reader.readBytes <= 3 * counting.readBytes + 64 * MIB, `${what}: reads too much`);
      if (map.notices.length > 0) doubts += 1;
      if (losesNothing) assert.deepEqual(missingFrom(sane.allocated, map.allocated), [], what);
    }
    assert.ok(doubts > 0, 'no damage was noticed');
  }

  function makeExt(...options: readonly string[]): void {
    makeDirtyImage(image, 24 * MIB);
    const common = ['-q', '-F', '-E', 'nodiscard', '-g', '2048', '-b', '1024'];
    run('mke2fs', [...common, ...options, '-d', tree, image]);
  }

  test('ext4 with checksums: no allocated byte is ever left out', async () => {
    makeExt('-t', 'ext4');
    await attack(true);
  });

  test('ext4 with checksums and 64 KiB clusters: no allocated byte is ever left out', async () => {
    makeDirtyImage(image, 64 * MIB);
    const options = ['-t', 'ext4', '-b', '4096', '-C', '65536', '-O', 'bigalloc'];
    run('mke2fs', ['-q', '-F', '-E', 'nodiscard', ...options, '-d', tree, image]);
    await attack(true);
  });

  for (const options of [
    ['-t', 'ext2'],
    ['-t', 'ext3'],
    ['-t', 'ext4', '-O', '^metadata_csum,^uninit_bg'],
  ]) {
    test(`ext without checksums (${options.join(' ')}): no allocated byte is left out`, async () => {
      makeExt(...options);
      await attack(true);
    });
  }

  for (const [version, options] of [
    [5, []],
    [4, ['-m', 'crc=0']],
  ] as const) {
    test(`XFS version ${version}: the map is sound`, async () => {
      rmSync(image, { force: true });
      writeFileSync(image, '');
      truncateSync(image, 320 * MIB);
      const large = join(tree, 'etc/deep/er/large');
      writeFileSync(
        join(folder, 'proto'),
        `/none\n0 0\nd--755 0 0\nlarge ---644 0 0 ${large}\n$\n`,
      );
      run('mkfs.xfs', ['-q', '-f', '-p', join(folder, 'proto'), ...options, image]);
      await attack(version === 5);
    });
  }

  test('btrfs: no allocated byte is ever left out', async () => {
    makeDirtyImage(image, 144 * MIB);
    run('mkfs.btrfs', ['-q', '-f', '-K', '--rootdir', tree, image]);
    await attack(true);
  });

  test('f2fs: the map is sound', async () => {
    rmSync(image, { force: true });
    writeFileSync(image, '');
    truncateSync(image, 128 * MIB);
    run('mkfs.f2fs', ['-q', '-f', image]);
    run('sload.f2fs', ['-f', tree, image]);
    await attack(false);
  });

  test('FAT: the map is sound', async () => {
    makeDirtyImage(image, 16 * MIB);
    run('mkfs.vfat', ['-F', '16', image]);
    await attack(false);
  });

  for (const label of ['gpt', 'dos']) {
    test(`a disk with ${label}: no allocated byte is ever left out`, async () => {
      makeExt('-t', 'ext4');
      const filesystem = readFileSync(image);
      run('mkswap', [image]);
      const swap = readFileSync(image).subarray(0, 4096);
      writeFileSync(image, '');
      truncateSync(image, 64 * MIB);
      const tables = {
        gpt: 'label: gpt\nstart=1MiB, size=24MiB\nstart=30MiB, size=24MiB\n',
        dos: 'label: dos\nstart=1MiB, size=24MiB\nstart=26MiB, size=30MiB, type=5\nstart=30MiB, size=24MiB\n',
      };
      run('sfdisk', ['-q', '--no-tell', image], label === 'gpt' ? tables.gpt : tables.dos);
      const disk = readFileSync(image);
      swap.copy(disk, MIB);
      filesystem.copy(disk, 30 * MIB);
      writeFileSync(image, disk);
      await attack(true);
    });
  }

  /** Replaces bytes at one place at a time; each must be noticed, and nothing left out. */
  async function assertNoticed(mutations: readonly Mutation[]): Promise<void> {
    using base = openImage(image);
    const sane = await readDiskMap(base);
    assert.deepEqual(sane.notices, []);
    for (const mutation of mutations) {
      const map = await readDiskMap(new MutatedReader(base, [mutation]));
      const what = `${mutation.bytes.length} at ${mutation.offset}`;
      assert.notDeepEqual(map.notices, [], what);
      assert.deepEqual(missingFrom(sane.allocated, map.allocated), [], what);
    }
  }

  for (const type of ['ext2', 'ext4']) {
    test(`${type}: a block bitmap that lost bits makes its group whole`, async () => {
      makeExt('-t', type);
      const groups = run('dumpe2fs', [image]).matchAll(/Block bitmap at (\d+)(?!.*UNINIT)/g);
      const mutations: Mutation[] = [];
      for (const [, block] of groups) {
        mutations.push({ offset: Number(block) * 1024, bytes: Buffer.alloc(4) });
        mutations.push({ offset: Number(block) * 1024, bytes: Buffer.alloc(256) });
      }
      using base = openImage(image);
      const real: Mutation[] = [];
      for (const mutation of mutations) {
        const { offset, bytes } = mutation;
        // Bitmaps that were never written hold zeros or old bytes, and are not read.
        const old = await base.read(offset, bytes.length);
        if (old[0] === 0xff) real.push(mutation);
      }
      assert.ok(real.length > 4);
      await assertNoticed(real);
    });
  }

  for (const [version, options] of [
    [5, []],
    [4, ['-m', 'crc=0']],
  ] as const) {
    test(`XFS version ${version}: a free space record that grew makes its group whole`, async () => {
      rmSync(image, { force: true });
      writeFileSync(image, '');
      truncateSync(image, 320 * MIB);
      run('mkfs.xfs', ['-q', '-f', ...options, image]);
      const show = (...requests: string[]): string =>
        run('xfs_db', ['-r', ...requests.flatMap((request) => ['-c', request]), image]);
      const at = Number(/daddr is (\d+)/.exec(show('agf 0', 'addr bnoroot', 'daddr'))?.[1]);
      const offset = at * 512 + (version === 5 ? 56 : 16);
      using base = openImage(image);
      const record = await base.read(offset, 8);
      const grown = Buffer.from(record);
      grown.writeUInt32BE(record.readUInt32BE(0) - 4, 0);
      const longer = Buffer.from(grown);
      longer.writeUInt32BE(record.readUInt32BE(4) + 4, 4);
      // Moved, all counts are right: only the checksum of version 5 knows.
      const mutations = version === 5 ? [grown, longer] : [longer];
      await assertNoticed(mutations.map((bytes) => ({ offset, bytes })));
    });
  }

  test('btrfs: an extent that moved makes everything whole', async () => {
    makeDirtyImage(image, 144 * MIB);
    run('mkfs.btrfs', ['-q', '-f', '-K', '-m', 'single', '--rootdir', tree, image]);
    const dump = run('btrfs', ['inspect-internal', 'dump-tree', '-t', 'extent', image]);
    // One that can move towards the one before it: its key still ascends, and all sums are right.
    const keys = [...dump.matchAll(/key \((\d+) EXTENT_ITEM/g)].map((match) => Number(match[1]));
    const key = keys.find((next, i) => i > 0 && next - (keys[i - 1] ?? 0) > 8192) ?? 0;
    const wanted = Buffer.alloc(9);
    wanted.writeBigUInt64LE(BigInt(key), 0);
    wanted.writeUInt8(168, 8);
    const at = readFileSync(image).lastIndexOf(wanted);
    const moved = Buffer.alloc(8);
    moved.writeBigUInt64LE(BigInt(key - 4096), 0);
    await assertNoticed([{ offset: at, bytes: moved }]);
  });
});
