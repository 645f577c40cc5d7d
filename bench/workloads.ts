/**
 * Makes the filesystems that the figures are taken on, from this machine's own packages.
 *
 * A seed chooses which packages go in, so that two runs on one machine have the same content; names,
 * sizes and kinds of content are those of a real Debian system.
 */
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  rmdirSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import {
  ALL_PACKAGES,
  inSeededOrder,
  installedPackages,
  type Package,
  SMALL_PACKAGES,
  takeBytes,
  without,
} from './packages.ts';
import { installLists, installPackages, runForADay, upgradePackages } from './upgrade.ts';

const MIB = 1024 * 1024;

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

/** Runs a program to its end. @throws Error with what it said when it fails */
export function run(program: string, ...args: string[]): string {
  const done = spawnSync(program, args, { encoding: 'utf8', maxBuffer: 64 * MIB });
  if (done.status !== 0) {
    throw new Error(`${program} ${args.join(' ')} ended with ${done.status}: ${done.stderr}`);
  }
  return done.stdout;
}

/** The packages of a workload: what lives, what was deleted, and what comes later. */
interface Choice {
  readonly live: readonly Package[];
  readonly garbage: readonly Package[];
  readonly later: readonly Package[];
}

function choose(
  seed: string,
  liveBytes: number,
  garbageBytes: number,
  limits = SMALL_PACKAGES,
): Choice {
  const order = inSeededOrder(installedPackages(limits), seed);
  const live = takeBytes(order, liveBytes);
  const others = without(order, live);
  const garbage = takeBytes(others, garbageBytes);
  return { live, garbage, later: without(others, garbage) };
}

function copyInto(folder: string, packages: readonly Package[]): void {
  for (const { path } of packages.flatMap(({ files }) => files)) {
    const target = join(folder, path);
    mkdirSync(dirname(target), { recursive: true });
    copyFileSync(path, target);
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
    waitUntilUnused(image);
  }
}

/**
 * A mount namespace that was made meanwhile still has the filesystem mounted: what is dirty in it
 * is not in the image yet.
 */
function waitUntilUnused(image: string): void {
  for (let left = 100; run('losetup', '-j', image) !== ''; left--) {
    if (left === 0) throw new Error(`${image} is still mounted in another mount namespace`);
    spawnSync('sleep', ['0.1']);
  }
}

/** An installed system in `live`, and free space full of files that were deleted. */
function fill(mountPoint: string, { live, garbage }: Choice): void {
  const was = join(mountPoint, 'was');
  const half = Math.floor(garbage.length / 2);
  // Garbage before and between live files, as on a machine that lived.
  copyInto(was, garbage.slice(0, half));
  installPackages(join(mountPoint, 'live'), live);
  installLists(join(mountPoint, 'live'));
  copyInto(was, garbage.slice(half));
  run('sync', '-f', mountPoint);
  rmSync(was, { recursive: true });
}

function freshImage(path: string, sizeBytes: number): void {
  writeFileSync(path, '');
  truncateSync(path, sizeBytes);
}

/** W1: an ext4 filesystem with real files and deleted-file garbage. */
export function makeW1(path: string, scale: Scale): void {
  freshImage(path, scale.diskBytes);
  run('mke2fs', '-q', '-F', '-t', 'ext4', path);
  withMounted(path, (mnt) => fill(mnt, choose('w1', scale.liveBytes, scale.garbageBytes)));
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
  const choice = choose('w2', scale.largeLiveBytes, scale.garbageBytes / 2, ALL_PACKAGES);
  withMounted(partition, (mnt) => fill(mnt, choice));
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

/** W3: W1 after an upgrade of a seventh of its bytes and a day of running, in place. */
export function makeW3(path: string, w1: string, scale: Scale): void {
  run('cp', '--sparse=always', w1, path);
  const { live, later } = choose('w1', scale.liveBytes, scale.garbageBytes);
  // Four small ones, as a fix needs them.
  const added = later.filter(({ sizeBytes }) => sizeBytes < scale.liveBytes / 100).slice(0, 4);
  withMounted(path, (mnt) => {
    const root = join(mnt, 'live');
    upgradePackages({
      root,
      installed: live,
      upgraded: takeBytes(inSeededOrder(live, 'w3'), scale.liveBytes / 7),
      added,
      fresh: without(later, added),
    });
    runForADay(root, live);
  });
}

/** W4: W1's tree on another filesystem. */
export function makeW4(path: string, w1: string, filesystem: 'xfs' | 'btrfs', scale: Scale): void {
  // XFS refuses less than 300 MB.
  freshImage(path, Math.max(scale.diskBytes, 320 * MIB));
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
