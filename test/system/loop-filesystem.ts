import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** The filesystems that this kernel mounts and these tests make. */
export type LoopKind = 'ext4' | 'xfs' | 'btrfs';

const MKFS: Readonly<Record<LoopKind, readonly string[]>> = {
  ext4: ['mkfs.ext4', '-q', '-F'],
  xfs: ['mkfs.xfs', '-q', '-f'],
  btrfs: ['mkfs.btrfs', '-q', '-f'],
};

/** A filesystem on a loop device, mounted; disposing thaws, unmounts and removes it. */
export interface LoopFilesystem extends Disposable {
  readonly mountPoint: string;
  readonly image: string;
  readonly device: string;
  /** A folder beside the image, on another filesystem than the mounted one. */
  readonly scratch: string;
  /** Mounts an image elsewhere with these options and gives the folder. */
  mountImage(image: string, options: string): string;
  /** Unmounts all of these again. */
  unmountImages(): void;
}

/** Runs a program and gives what it said; throws when it fails. */
export function run(command: string, ...args: readonly string[]): string {
  return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

/** Makes and mounts a filesystem of `sizeMiB` in a new folder under TMPDIR. */
export function loopFilesystem({
  kind = 'ext4',
  sizeMiB = 64,
  mountName = 'mounted',
  mkfsOptions = [],
}: {
  readonly kind?: LoopKind;
  readonly sizeMiB?: number;
  readonly mountName?: string;
  readonly mkfsOptions?: readonly string[];
} = {}): LoopFilesystem {
  const scratch = mkdtempSync(join(tmpdir(), 'ingot-loop-'));
  const image = join(scratch, 'device.img');
  const mountPoint = join(scratch, mountName);
  const mounted: string[] = [];
  mkdirSync(mountPoint);
  writeFileSync(image, '');
  truncateSync(image, sizeMiB * 1024 * 1024);
  const [program = '', ...options] = MKFS[kind];
  run(program, ...options, ...mkfsOptions, image);
  run('mount', '-o', 'loop', image, mountPoint);
  mounted.push(mountPoint);
  const device = run('findmnt', '-n', '-o', 'SOURCE', '--mountpoint', mountPoint).trim();
  return {
    mountPoint,
    image,
    device,
    scratch,
    mountImage: (other, mountOptions) => {
      const folder = mkdtempSync(join(scratch, 'image-'));
      run('mount', '-o', mountOptions, other, folder);
      mounted.push(folder);
      return folder;
    },
    unmountImages: () => {
      for (const folder of mounted.splice(1)) run('umount', folder);
    },
    [Symbol.dispose]: () => {
      spawnSync('fsfreeze', ['-u', mountPoint]);
      for (const folder of mounted.toReversed()) unmountSoon(folder);
      rmSync(scratch, { recursive: true, force: true });
    },
  };
}

/** Unmounts what a process that was killed may hold for a moment more. */
function unmountSoon(folder: string): void {
  const deadline = performance.now() + 10_000;
  while (performance.now() < deadline) {
    const { status, stderr } = spawnSync('umount', [folder], { encoding: 'utf8' });
    if (status === 0 || !/busy/.test(stderr)) return;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
  }
}

/** Every path below a folder with what it holds: equal trees have equal lists. */
export function treeOf(folder: string): Map<string, string> {
  const tree = new Map<string, string>();
  const visit = (path: string, name: string): void => {
    const stat = lstatSync(path);
    const facts = `${stat.mode.toString(8)} ${stat.uid}:${stat.gid}`;
    if (stat.isDirectory()) {
      tree.set(name, facts);
      for (const child of readdirSync(path)) visit(join(path, child), `${name}/${child}`);
    } else if (stat.isSymbolicLink()) {
      tree.set(name, `${facts} -> ${readlinkSync(path)}`);
    } else if (stat.isFile()) {
      const digest = createHash('sha256').update(readFileSync(path)).digest('hex');
      tree.set(name, `${facts} ${stat.size} ${digest}`);
    } else {
      tree.set(name, facts);
    }
  };
  visit(folder, '');
  return tree;
}

/** Asserts nothing: tells which names differ between two trees. */
export function differences(
  a: ReadonlyMap<string, string>,
  b: ReadonlyMap<string, string>,
): string[] {
  return [...new Set([...a.keys(), ...b.keys()])].filter((name) => a.get(name) !== b.get(name));
}
