import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MIB } from '../../src/base/index.ts';

/** Filesystems that know the ioctl, and how large they must be. */
export const POWERED_KINDS = {
  ext4: { mkfs: ['mkfs.ext4', '-q'], sizeBytes: 128 * MIB },
  xfs: { mkfs: ['mkfs.xfs', '-q'], sizeBytes: 320 * MIB },
} as const;

/** A filesystem of its own on a loop device, whose power a test cuts. */
export class PoweredFilesystem implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'ingot-power-'));
  readonly mountPoint = join(this.folder, 'mount');
  readonly #image = join(this.folder, 'disk');
  #isMounted = false;

  constructor(mkfs: readonly [string, ...string[]], sizeBytes: number) {
    mkdirSync(this.mountPoint);
    writeFileSync(this.#image, '');
    truncateSync(this.#image, sizeBytes);
    const [command, ...options] = mkfs;
    execFileSync(command, [...options, this.#image], { stdio: 'ignore' });
    this.mount();
  }

  mount(): void {
    execFileSync('mount', ['-o', 'loop', this.#image, this.mountPoint]);
    this.#isMounted = true;
  }

  /** What was not synced is lost, as if the cable had been pulled. */
  cutPower(): void {
    execFileSync('xfs_io', ['-x', '-c', 'shutdown', this.mountPoint], { stdio: 'ignore' });
  }

  unmount(): void {
    if (this.#isMounted) execFileSync('umount', [this.mountPoint]);
    this.#isMounted = false;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.unmount();
    rmSync(this.folder, { recursive: true });
  }
}

/** @returns why a test cannot run, or false */
export function skipWithout(...tools: string[]): string | false {
  const missing = tools.filter((tool) => spawnSync('which', [tool]).status !== 0);
  return missing.length > 0 && `${missing.join(', ')} not installed`;
}
