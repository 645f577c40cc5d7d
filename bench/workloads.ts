/**
 * Makes the filesystems that the figures are taken on, from this machine's own files.
 *
 * A seed chooses which files of /usr go in, so that two runs on one machine have the same content;
 * names, sizes and kinds of content are those of a real Debian system.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

const MIB = 1024 * 1024;
const LARGEST_FILE_BYTES = 8 * MIB;
const POOL_ROOTS = ['/usr/lib', '/usr/share', '/usr/bin', '/usr/sbin', '/usr/include'];

/** How large a workload is; the bench table uses the full one, a quick look a tenth of it. */
export interface Scale {
  readonly name: string;
  readonly diskBytes: number;
  readonly liveBytes: number;
  readonly garbageBytes: number;
  readonly largeDiskBytes: number;
  readonly largeLiveBytes: number;
}

export const FULL: Scale = {
  name: 'full',
  diskBytes: 2048 * MIB,
  liveBytes: 550 * MIB,
  garbageBytes: 600 * MIB,
  largeDiskBytes: 20480 * MIB,
  largeLiveBytes: 1500 * MIB,
};

export const QUICK: Scale = {
  name: 'quick',
  diskBytes: 256 * MIB,
  liveBytes: 60 * MIB,
  garbageBytes: 60 * MIB,
  largeDiskBytes: 2048 * MIB,
  largeLiveBytes: 150 * MIB,
};

interface PoolFile {
  readonly path: string;
  readonly sizeBytes: number;
  /** Position in the seeded order. */
  readonly rank: string;
}

/** Runs a program to its end. @throws Error with what it said when it fails */
export function run(program: string, ...args: string[]): string {
  const done = spawnSync(program, args, { encoding: 'utf8', maxBuffer: 64 * MIB });
  if (done.status !== 0) {
    throw new Error(`${program} ${args.join(' ')} ended with ${done.status}: ${done.stderr}`);
  }
  return done.stdout;
}

function listFiles(folder: string, into: string[]): void {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) listFiles(path, into);
    else if (entry.isFile()) into.push(path);
  }
}

/** All candidate files in an order that only the seed and their names decide. */
function pool(seed: string): PoolFile[] {
  const paths: string[] = [];
  for (const root of POOL_ROOTS) if (existsSync(root)) listFiles(root, paths);
  return paths
    .map((path) => ({
      path,
      sizeBytes: statSync(path).size,
      rank: createHash('sha256').update(`${seed}\0${path}`).digest('hex'),
    }))
    .filter((file) => file.sizeBytes <= LARGEST_FILE_BYTES)
    .sort((a, b) => (a.rank < b.rank ? -1 : 1));
}

/** Takes files in seeded order until they hold `bytes`. */
function take(files: readonly PoolFile[], bytes: number, skip = 0): PoolFile[] {
  const taken: PoolFile[] = [];
  let total = 0;
  for (const file of files.slice(skip)) {
    if (total >= bytes) break;
    taken.push(file);
    total += file.sizeBytes;
  }
  // In order of their names, as a package manager unpacks them.
  return taken.sort((a, b) => (a.path < b.path ? -1 : 1));
}

function copyInto(mountPoint: string, files: readonly PoolFile[], top: string): void {
  for (const file of files) {
    const target = join(mountPoint, top, file.path);
    mkdirSync(dirname(target), { recursive: true });
    copyFileSync(file.path, target);
  }
}

/** Mounts an image file for as long as `work` runs. */
export function withMounted<T>(
  image: string,
  work: (mountPoint: string) => T,
  options = 'loop',
): T {
  const mountPoint = mkdtempSync(join(tmpdir(), 'ingot-bench-mnt-'));
  run('mount', '-o', options, image, mountPoint);
  try {
    return work(mountPoint);
  } finally {
    run('umount', mountPoint);
    rmdirSync(mountPoint);
  }
}

/** A tree with live files, and free space full of files that were deleted. */
function fill(mountPoint: string, files: readonly PoolFile[], live: number, garbage: number): void {
  const liveFiles = take(files, live);
  const garbageFiles = take(files, garbage, liveFiles.length);
  const half = Math.floor(garbageFiles.length / 2);
  // Garbage before and between live files, as on a machine that lived.
  copyInto(mountPoint, garbageFiles.slice(0, half), 'was');
  copyInto(mountPoint, liveFiles, 'live');
  copyInto(mountPoint, garbageFiles.slice(half), 'was');
  run('sync', '-f', mountPoint);
  rmSync(join(mountPoint, 'was'), { recursive: true });
}

function freshImage(path: string, sizeBytes: number): void {
  writeFileSync(path, '');
  truncateSync(path, sizeBytes);
}

/** W1: an ext4 filesystem with real files and deleted-file garbage. */
export function makeW1(path: string, scale: Scale): void {
  freshImage(path, scale.diskBytes);
  run('mke2fs', '-q', '-F', '-t', 'ext4', path);
  const files = pool('w1');
  withMounted(path, (mnt) => fill(mnt, files, scale.liveBytes, scale.garbageBytes));
}

/** W2: a partitioned disk, mostly empty, with one large ext4. */
export function makeW2(path: string, scale: Scale): void {
  freshImage(path, scale.largeDiskBytes);
  run('sh', '-c', `printf 'label: gpt\nsize=64MiB,type=U\nsize=+\n' | sfdisk -q '${path}'`);
  const offset = 65 * MIB;
  const partition = `${path}.part`;
  // The filesystem is made apart and moved in: mke2fs knows no end of a partition inside a file.
  freshImage(partition, scale.largeDiskBytes - offset - MIB);
  run('mke2fs', '-q', '-F', '-t', 'ext4', partition);
  const files = pool('w2');
  withMounted(partition, (mnt) =>
    fill(mnt, files, Math.min(scale.largeLiveBytes, 1500 * MIB), scale.garbageBytes / 2),
  );
  run(
    'dd',
    `if=${partition}`,
    `of=${path}`,
    'bs=1M',
    `seek=${offset / MIB}`,
    'conv=notrunc,sparse',
    'status=none',
  );
  rmSync(partition);
}

/** W3: W1 after a package upgrade, logs and edits, in place. */
export function makeW3(path: string, w1: string, scale: Scale): void {
  run('cp', '--sparse=always', w1, path);
  const fresh = take(pool('w3-new'), scale.liveBytes / 7);
  withMounted(path, (mnt) => {
    const live: string[] = [];
    listFiles(join(mnt, 'live'), live);
    live.sort();
    // Packages replace whole folders, each file by a new one that takes its name: a run of files in
    // order of their names, here and there, until a seventh of the bytes is new.
    const runLength = 60;
    fresh.forEach((file, i) => {
      const start = (Math.floor(i / runLength) * 7919 * runLength) % live.length;
      const target = live[(start + (i % runLength)) % live.length];
      if (target === undefined) return;
      copyFileSync(file.path, `${target}.dpkg-new`);
      renameSync(`${target}.dpkg-new`, target);
    });
    for (let i = 0; i < 40; i++) {
      const target = live[(i * 104_729) % live.length];
      if (target !== undefined && existsSync(target)) appendFileSync(target, `edited ${i}\n`);
    }
    mkdirSync(join(mnt, 'live/var/log'), { recursive: true });
    for (let i = 0; i < 5; i++) {
      const lines = Array.from({ length: 20_000 }, (_, n) => `${i} ${n} event ${(n * 31) % 977}\n`);
      writeFileSync(join(mnt, `live/var/log/log-${i}`), lines.join(''));
    }
  });
}

/** W4: W1's tree on another filesystem. */
export function makeW4(path: string, w1: string, filesystem: 'xfs' | 'btrfs', scale: Scale): void {
  freshImage(path, scale.diskBytes);
  run(`mkfs.${filesystem}`, '-q', path);
  withMounted(path, (target) => {
    withMounted(w1, (source) => run('cp', '-a', `${source}/live`, target), 'loop,ro,noload');
  });
}

/** W5: W3's tree laid out anew by `mke2fs -d`, as an image builder does. */
export function makeW5(path: string, w3: string, sizeBytes: number): void {
  freshImage(path, sizeBytes);
  withMounted(
    w3,
    (source) => run('mke2fs', '-q', '-F', '-t', 'ext4', '-d', source, path),
    'loop,ro',
  );
}
