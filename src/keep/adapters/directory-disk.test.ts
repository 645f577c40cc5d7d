import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { diskContract } from '../../../test/contracts/disk.ts';
import { SimulatedDisk, SimulatedMachine } from '../../../test/faults/simulated-disk.ts';
import { isFailure } from '../../base/index.ts';
import type { Disk } from '../chunks/disk.ts';
import { StoppingDisk } from '../library/stopping-disk.ts';
import { DirectoryDisk } from './directory-disk.ts';

async function inDirectory(work: (disk: Disk) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'ingot-disk-'));
  try {
    await work(new DirectoryDisk(folder));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

diskContract('a directory', inDirectory);
diskContract('one that stops writing', (work) =>
  inDirectory((disk) => work(new StoppingDisk(disk))),
);
diskContract('simulated', (work) => work(new SimulatedDisk(new SimulatedMachine(1))));

test('a directory that another process has locked is refused, until the lock is gone', async () => {
  await inDirectory(async (disk) => {
    {
      await using _lock = await disk.lock('lock');
      await assert.rejects(disk.lock('lock'), (thrown) => isFailure(thrown, 'library-busy'));
    }
    await using _again = await disk.lock('lock');
  });
});
