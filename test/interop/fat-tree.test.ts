import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { isFailure, KIB, MIB } from '../../src/base/index.ts';
import { type ByteReader, type FileTree, lookUp, openFileTree } from '../../src/bytes/index.ts';
import { listFiles } from '../../src/publish/image-files/list-files.ts';
import { missingTools, openImage, run } from './disk-image.ts';

const missing = missingTools('mkfs.fat', 'mcopy', 'mdel', 'mattrib').join(', ');
const folder = mkdtempSync(join(tmpdir(), 'ingot-fat-'));
const path = (name: string): string => join(folder, name);
after(() => rmSync(folder, { recursive: true }));

/** Sizes that make each kind, and words of mkfs.fat. */
const KINDS = {
  fat12: [4 * MIB, '-F', '12'],
  fat16: [40 * MIB, '-F', '16', '-s', '4'],
  fat32: [70 * MIB, '-F', '32', '-s', '2'],
} as const satisfies Record<string, readonly [number, ...string[]]>;
type Kind = keyof typeof KINDS;

const MODIFIED = new Date('2024-02-29T12:34:56Z');

/** A boot partition's tree: firmware's short names, a kernel's long ones, and awkward ones. */
function makeBootTree(top: string): void {
  const dirs = ['EFI/BOOT', 'EFI/debian', 'loader/entries', 'empty', 'many'];
  for (const dir of dirs) mkdirSync(join(top, dir), { recursive: true });
  const files: Record<string, Buffer> = {
    'EFI/BOOT/BOOTX64.EFI': Buffer.alloc(300_001, 'efi '),
    'EFI/debian/grub.cfg': Buffer.from('set timeout=5\n'),
    'loader/entries/6f3d9d1c0b8f4e0f8e0c7b0a1d2e3f40-6.1.0-18-amd64.conf': Buffer.from('title\n'),
    'vmlinuz-6.1.0-18-amd64': Buffer.alloc(900_000, 'kernel'),
    'Lower.TXT': Buffer.from('mixed'),
    'readme.txt': Buffer.from('lower'),
    'größe – 日本.bin': Buffer.alloc(2049, 7),
    ['x'.repeat(255)]: Buffer.from('longest'),
    'with blank and.two.dots': Buffer.from('dots'),
    zero: Buffer.alloc(0),
    'config.txt': Buffer.from('dtparam=audio=on\n'),
    deleted: Buffer.alloc(60_000, 'gone'),
  };
  for (let i = 0; i < 150; i++) files[`many/a file with a long name ${i}`] = Buffer.from(`${i}`);
  for (const [name, bytes] of Object.entries(files)) {
    writeFileSync(join(top, name), bytes);
    utimesSync(join(top, name), MODIFIED, MODIFIED);
  }
}

function mtools(...words: [string, ...string[]]): void {
  const [tool, ...argv] = words;
  const env = { ...process.env, MTOOLS_SKIP_CHECK: '1', LC_ALL: 'C.UTF-8', TZ: 'UTC' };
  const done = spawnSync(tool, argv, { env, encoding: 'utf8' });
  assert.equal(done.status, 0, done.stderr);
}

function makeImage(kind: Kind): string {
  const image = path(`${kind}.img`);
  const [sizeBytes, ...words] = KINDS[kind];
  writeFileSync(image, '');
  truncateSync(image, sizeBytes);
  run('mkfs.fat', [...words, '-n', 'BOOT', image]);
  const top = path('tree');
  const names = readdirSync(top).map((name) => join(top, name));
  mtools('mcopy', '-s', '-p', '-m', '-Q', '-i', image, ...names, '::/');
  // Holes among the clusters: what comes next is spread over them.
  mtools('mdel', '-i', image, '::/deleted');
  writeFileSync(path('late'), Buffer.alloc(200 * KIB, 'late '));
  mtools('mcopy', '-i', image, path('late'), '::/late');
  mtools('mattrib', '+r', '-i', image, '::/config.txt');
  return image;
}

async function open(reader: ByteReader): Promise<FileTree> {
  const whole = { offsetBytes: 0, sizeBytes: reader.sizeBytes };
  const tree = await openFileTree(reader, 'vfat', whole);
  assert.ok(tree !== undefined);
  return tree;
}

async function bytesOf(tree: FileTree, node: Parameters<FileTree['readFile']>[0]): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of tree.readFile(node)) pieces.push(piece);
  return Buffer.concat(pieces);
}

/** Everything below a folder: path, then bytes, or undefined for a directory. */
function treeOf(top: string): Map<string, Buffer | undefined> {
  const found = new Map<string, Buffer | undefined>();
  for (const entry of readdirSync(top, { recursive: true, withFileTypes: true })) {
    const at = join(entry.parentPath, entry.name);
    found.set(relative(top, at), entry.isDirectory() ? undefined : readFileSync(at));
  }
  return found;
}

async function readTree(tree: FileTree): Promise<Map<string, Buffer | undefined>> {
  const found = new Map<string, Buffer | undefined>();
  for await (const { path: parts, node } of listFiles(tree, await tree.root(), {
    isRecursive: true,
  })) {
    const bytes = node.kind === 'file' ? await bytesOf(tree, node) : undefined;
    if (bytes !== undefined) assert.equal(bytes.length, node.sizeBytes);
    found.set(parts.map(String).join('/'), bytes);
  }
  return found;
}

describe('files of a FAT', { skip: missing === '' ? false : `not installed: ${missing}` }, () => {
  before(() => {
    mkdirSync(path('tree'));
    makeBootTree(path('tree'));
  });

  for (const kind of Object.keys(KINDS) as Kind[]) {
    test(`${kind}: are those that mtools reads, with their names`, async () => {
      const image = makeImage(kind);
      const copied = path(`${kind}-copied`);
      mkdirSync(copied);
      mtools('mcopy', '-s', '-n', '-i', image, '::/', copied);
      using reader = openImage(image);
      const tree = await open(reader);
      const ours = await readTree(tree);
      const theirs = treeOf(copied);
      assert.deepEqual([...ours.keys()].sort(), [...theirs.keys()].sort());
      for (const [name, bytes] of theirs) {
        if (bytes === undefined) assert.equal(ours.get(name), undefined);
        else assert.ok(ours.get(name)?.equals(bytes), name);
      }
      for (const name of ['größe – 日本.bin', 'x'.repeat(255), 'readme.txt', 'Lower.TXT', 'late']) {
        assert.ok(ours.has(name), name);
      }
      assert.equal(ours.has('deleted'), false);
    });

    test(`${kind}: tell their places, times and permissions`, async () => {
      using reader = openImage(path(`${kind}.img`));
      const tree = await open(reader);
      const node = await lookUp(tree, await tree.root(), Buffer.from('vmlinuz-6.1.0-18-amd64'));
      assert.ok(node !== undefined);
      assert.equal(node.modifiedAtNs, BigInt(MODIFIED.getTime()) * 1_000_000n);
      const pieces: Buffer[] = [];
      let at = 0;
      for (const { fileOffset, diskOffset, lengthBytes } of (await tree.placesOf(node)) ?? []) {
        assert.equal(fileOffset, at);
        pieces.push(await reader.read(diskOffset, lengthBytes));
        at += lengthBytes;
      }
      assert.ok(Buffer.concat(pieces).equals(Buffer.alloc(900_000, 'kernel')));
      const late = await lookUp(tree, await tree.root(), Buffer.from('late'));
      assert.ok(late !== undefined);
      // FAT32 goes on where it stopped before it fills holes.
      const runs = ((await tree.placesOf(late)) ?? []).length;
      assert.ok(kind === 'fat32' || runs > 1, `${runs} runs`);
      const fixed = await lookUp(tree, await tree.root(), Buffer.from('CONFIG.txt'));
      assert.equal(fixed?.permissions, 0o555);
      assert.equal(await lookUp(tree, await tree.root(), Buffer.from('nobody')), undefined);
    });

    test(`${kind}: damaged anywhere are refused or read, in bounded time and memory`, async () => {
      using base = openImage(path(`${kind}.img`));
      const structures = await structuresOf(base);
      const below = random(Buffer.from(kind).readUInt16BE(2));
      let refused = 0;
      for (let trial = 0; trial < 250; trial++) {
        const changes = new Map<number, number>();
        for (let n = 0; n <= trial % 4; n++) {
          const line = structures[below(structures.length)] ?? 0;
          changes.set(line + below(LINE_BYTES), [0, 0xff, below(256)][below(3)] ?? 0);
        }
        const reader = changed(base, changes);
        try {
          const tree = await open(reader);
          await readTree(tree);
        } catch (thrown) {
          const words = `trial ${trial}: ${JSON.stringify([...changes])}`;
          assert.ok(isFailure(thrown, 'filesystem-malformed'), `${words}: ${String(thrown)}`);
          refused += 1;
        }
        assert.ok(reader.readBytes < 8 * base.sizeBytes, `trial ${trial}: ${reader.readBytes}`);
        assert.ok(reader.largestRead <= MIB);
      }
      assert.ok(refused > 10, `${refused} were refused`);
    });
  }

  test('a chain or a directory that leads into itself ends', async () => {
    using base = openImage(path('fat16.img'));
    const image = readFileSync(path('fat16.img'));
    const tree = await open(base);
    const node = await lookUp(tree, await tree.root(), Buffer.from('vmlinuz-6.1.0-18-amd64'));
    const [place] = (node && (await tree.placesOf(node))) ?? [];
    assert.ok(node !== undefined && place !== undefined);
    const fatOffset = image.readUInt16LE(14) * 512;
    const first = node.raw.readUInt16LE(26);
    const around = changed(
      base,
      new Map([
        [fatOffset + first * 2, first & 0xff],
        [fatOffset + first * 2 + 1, first >> 8],
        // A size that the circle could fill for ever.
        ...[28, 29, 30, 31].map((at) => [node.inode * 32 + at, 0xff] as const),
      ]),
    );
    const circle = await open(around);
    const again = await circle.node(node.inode);
    assert.equal(again.sizeBytes, 2 ** 32 - 1);
    await assert.rejects(bytesOf(circle, again), (thrown) =>
      isFailure(thrown, 'filesystem-malformed'),
    );
    const efi = await lookUp(tree, await tree.root(), Buffer.from('EFI'));
    const boot = efi && (await lookUp(tree, efi, Buffer.from('BOOT')));
    assert.ok(efi !== undefined && boot !== undefined);
    const own = efi.raw.readUInt16LE(26);
    const nested = changed(
      base,
      new Map([
        [boot.inode * 32 + 26, own & 0xff],
        [boot.inode * 32 + 27, own >> 8],
      ]),
    );
    await assert.rejects(readTree(await open(nested)), (thrown) =>
      isFailure(thrown, 'filesystem-malformed'),
    );
  });
});

const LINE_BYTES = 16;

/** Lines of the image that say anything: tables, directories, the boot sector. */
async function structuresOf(base: ByteReader): Promise<number[]> {
  const lines = new Set<number>();
  const recorder: ByteReader = {
    sizeBytes: base.sizeBytes,
    read: async (offset, length) => {
      const bytes = await base.read(offset, length);
      for (let at = 0; at + LINE_BYTES <= length; at += LINE_BYTES) {
        const line = bytes.subarray(at, at + LINE_BYTES);
        if (!line.every((byte) => byte === 0)) lines.add(offset + at);
      }
      return bytes;
    },
  };
  const tree = await open(recorder);
  for await (const { node } of listFiles(tree, await tree.root(), { isRecursive: true })) {
    if (node.kind === 'file') await tree.placesOf(node);
  }
  return [...lines];
}

interface ChangedReader extends ByteReader {
  readBytes: number;
  largestRead: number;
}

/** An image of which some bytes are others. */
function changed(base: ByteReader, changes: ReadonlyMap<number, number>): ChangedReader {
  const reader: ChangedReader = {
    sizeBytes: base.sizeBytes,
    readBytes: 0,
    largestRead: 0,
    async read(offset, length) {
      reader.readBytes += length;
      reader.largestRead = Math.max(reader.largestRead, length);
      const bytes = await base.read(offset, length);
      for (const [at, value] of changes) {
        if (at >= offset && at < offset + length) bytes[at - offset] = value;
      }
      return bytes;
    },
  };
  return reader;
}

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
