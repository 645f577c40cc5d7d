import { rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { INGOT, startBenchDaemon } from './daemon.ts';
import type { BenchContext } from './main.ts';
import { compare, table } from './measure.ts';
import { run } from './workloads.ts';

/** A loop device over a file of holes, which is made anew for each round. */
class FreshDisk implements Disposable {
  readonly device: string;
  readonly #path: string;
  readonly #sizeBytes: number;

  constructor(path: string, sizeBytes: number) {
    this.#path = path;
    this.#sizeBytes = sizeBytes;
    this.#makeFile();
    this.device = run('losetup', '--find', '--show', path).trim();
  }

  /** Gives all space back: the device reads as zeros. */
  clear(): void {
    run('blkdiscard', '--zeroout', this.device);
    run('fallocate', '--punch-hole', '--offset', '0', '--length', `${this.#sizeBytes}`, this.#path);
    run('sync', this.#path);
    run('blockdev', '--flushbufs', this.device);
  }

  [Symbol.dispose](): void {
    run('losetup', '--detach', this.device);
    rmSync(this.#path);
  }

  #makeFile(): void {
    writeFileSync(this.#path, '');
    truncateSync(this.#path, this.#sizeBytes);
  }
}

/** W1 out of the library onto a block device, every chunk verified, against gzip and dd. */
export async function restoreFigures(context: BenchContext): Promise<string> {
  await using daemon = await startBenchDaemon(context.env);
  const words = ['--quiet', '--free-space', 'zero', '--name', 'w1'];
  const id = daemon.ingot('images', 'import', ...words, context.w1).trim();
  const packed = join(context.scratch, 'restore.gz');
  rmSync(packed, { force: true });
  daemon.ingot('images', 'download', '--quiet', '--format', 'gz', '-o', packed, id);
  using disk = new FreshDisk(join(context.scratch, 'restore.img'), context.scale.diskBytes);
  const prepare = (): void => disk.clear();
  const write = `${INGOT} images write --quiet --yes`;
  const standings = compare(
    [
      {
        name: 'ingot images write, read back',
        prepare,
        command: `${write} ${id} ${disk.device}`,
        env: daemon.env,
      },
      {
        name: 'the same, not read back',
        prepare,
        command: `${write} --no-verify ${id} ${disk.device}`,
        env: daemon.env,
      },
      {
        name: 'the same, onto what has it already',
        prepare: () => daemon.ingot('images', 'write', '--quiet', '--yes', id, disk.device),
        command: `${write} ${id} ${disk.device}`,
        env: daemon.env,
      },
      {
        name: 'gzip -dc | dd bs=1M oflag=direct conv=fsync',
        prepare,
        command: `gzip -dc ${packed} | dd bs=1M oflag=direct conv=fsync status=none of=${disk.device}`,
      },
    ],
    context.rounds,
  );
  rmSync(packed);
  return [
    table('W1 out of the library onto a block device', standings),
    `Daemon's peak ${daemon.peakMemoryMb().toFixed(0)} MB; its CPU is not in these figures.`,
    '',
  ].join('\n');
}
