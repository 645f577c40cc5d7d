import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { isFailure, MIB, systemClock } from '../../src/base/index.ts';
import { DirectoryLibrary } from '../../src/keep/index.ts';
import { bytesOf, ingest, segmentOf } from '../contracts/ingest-session.ts';
import { ACCOUNT, partsIn, readDisk } from '../contracts/test-library.ts';
import {
  checkAfterwards,
  mayBeIngestLoop,
  nothingTold,
  startIngestLoop,
} from '../faults/ingest-loop.ts';

const TRIALS = Number(process.env['INGOT_POWER_CUTS'] ?? 4);

/** A filesystem of its own on a loop device. */
class LoopFilesystem implements AsyncDisposable {
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

function skipWithout(...tools: string[]): string | false {
  const missing = tools.filter((tool) => spawnSync('which', [tool]).status !== 0);
  return missing.length > 0 && `${missing.join(', ')} not installed`;
}

if (!(await mayBeIngestLoop())) {
  const kinds = {
    ext4: { mkfs: ['mkfs.ext4', '-q'], sizeBytes: 128 * MIB },
    xfs: { mkfs: ['mkfs.xfs', '-q'], sizeBytes: 320 * MIB },
  } as const;
  for (const [name, { mkfs, sizeBytes }] of Object.entries(kinds)) {
    describe(`a power cut under ${name}`, { skip: skipWithout('xfs_io', mkfs[0]) }, () => {
      test(`loses nothing that was acknowledged (${TRIALS} cuts)`, async () => {
        await using disk = new LoopFilesystem(mkfs, sizeBytes);
        const told = nothingTold();
        for (let trial = 0; trial < TRIALS; trial++) {
          const loop = await startIngestLoop(import.meta.filename, disk.mountPoint, told);
          const exited = once(loop.child, 'exit');
          try {
            await systemClock.sleep(Math.random() * 400);
            disk.cutPower();
          } finally {
            loop.child.kill('SIGKILL');
            await Promise.all([exited, loop.ended]);
          }
          disk.unmount();
          disk.mount();
          await checkAfterwards(disk.mountPoint, told);
        }
        assert.ok(told.made.size >= TRIALS);
      });
    });
  }

  describe('a full filesystem', { skip: skipWithout('mkfs.ext4') }, () => {
    test('refuses images, loses none, and has room again after a delete and a collection', async () => {
      await using disk = new LoopFilesystem(['mkfs.ext4', '-q', '-m', '0'], 40 * MIB);
      const limits = { packBytes: 4 * MIB, digestBytes: 0, reserveBytes: 4 * MIB };
      await using library = await DirectoryLibrary.open(partsIn(disk.mountPoint, { limits }));
      const account = library.forAccount(ACCOUNT);
      const made: string[] = [];
      for (let number = 0; ; number++) {
        const chunks = Array.from({ length: 60 }, (_, i) =>
          segmentOf(bytesOf(number * 60 + i, 200_000)),
        );
        try {
          made.push((await ingest(account, `image-${number}`, chunks)).id);
        } catch (error) {
          assert.ok(isFailure(error, 'library-full'), String(error));
          break;
        }
      }
      assert.ok(made.length >= 2, `${made.length} images`);
      assert.equal((await library.verify()).isClean, true);
      // Whatever is left is taken, so that deleting finds nothing but the reserve.
      fillUp(join(disk.mountPoint, 'lost+found/filler'));
      await account.destroy(made.shift() ?? '');
      await library.collect({ isForced: true });
      rmSync(join(disk.mountPoint, 'lost+found/filler'));
      assert.deepEqual((await account.list()).map(({ id }) => id).sort(), made.toSorted());
      const again = await ingest(account, 'again', [segmentOf(bytesOf(1, 200_000))]);
      assert.equal((await readDisk(account, again.id)).length, 200_000);
      assert.equal((await library.verify()).isClean, true);
    });
  });
}

/** Writes until nothing more fits. */
function fillUp(file: string): void {
  spawnSync('dd', ['if=/dev/zero', `of=${file}`, 'bs=64k'], { stdio: 'ignore' });
  spawnSync('dd', ['if=/dev/zero', `of=${file}`, 'bs=512', 'oflag=append', 'conv=notrunc'], {
    stdio: 'ignore',
  });
}
