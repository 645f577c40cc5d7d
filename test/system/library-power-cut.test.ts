import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
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
import { POWERED_KINDS, PoweredFilesystem, skipWithout } from './powered-filesystem.ts';

const TRIALS = Number(process.env['INGOT_POWER_CUTS'] ?? 4);

if (!(await mayBeIngestLoop())) {
  for (const [name, { mkfs, sizeBytes }] of Object.entries(POWERED_KINDS)) {
    describe(`a power cut under ${name}`, { skip: skipWithout('xfs_io', mkfs[0]) }, () => {
      test(`loses nothing that was acknowledged (${TRIALS} cuts)`, async () => {
        await using disk = new PoweredFilesystem(mkfs, sizeBytes);
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
      await using disk = new PoweredFilesystem(['mkfs.ext4', '-q', '-m', '0'], 40 * MIB);
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
