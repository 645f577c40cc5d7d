import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { closeSync, mkdirSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { MIB, noProgress, systemClock } from '../../src/base/index.ts';
import { openSnapshotSource } from '../../src/capture/adapters/open-snapshot-source.ts';
import { openFastestCodec } from '../../src/keep/adapters/fastest-segment-codec.ts';
import { fileSpools } from '../../src/keep/adapters/file-spool.ts';
import { openChunkWorkers } from '../../src/keep/adapters/thread-chunk-workers.ts';
import { type AccountLibrary, type Image, ingestSnapshot } from '../../src/keep/index.ts';
import { publishRaw } from '../../src/publish/index.ts';
import { openTestLibrary } from '../contracts/test-library.ts';
import { numberIn, startBusyWriter, writerPasses } from './busy-writer.ts';
import {
  differences,
  type LoopFilesystem,
  loopFilesystem,
  run,
  treeOf,
} from './loop-filesystem.ts';

async function ingest(disk: LoopFilesystem, account: AccountLibrary): Promise<Image> {
  await using source = await openSnapshotSource({
    source: disk.mountPoint,
    freeSpace: undefined,
    freeze: true,
    limits: { maxFreezeMs: 60_000, maxStallMs: 30_000 },
    forbiddenPaths: [],
  });
  const { codec } = await openFastestCodec();
  await using workers = openChunkWorkers(codec.name);
  return await ingestSnapshot({
    source,
    target: account,
    workers,
    description: {
      name: 'live',
      description: '',
      kind: 'snapshot',
      arch: 'x86_64',
      ancestorId: undefined,
      compatibilityMode: false,
    },
    onProgress: noProgress,
    signal: AbortSignal.timeout(120_000),
    openSpool: fileSpools(disk.scratch),
    clock: systemClock,
  });
}

/** Writes an image of the library to a file. */
async function restore(account: AccountLibrary, { id }: Image, path: string): Promise<void> {
  const { codec } = await openFastestCodec();
  await using file = publishRaw(await account.open(id), codec);
  const fd = openSync(path, 'w');
  try {
    for await (const bytes of file.read(0, file.sizeBytes)) writeSync(fd, bytes);
  } finally {
    closeSync(fd);
  }
}

test('an image of a filesystem in use is one instant of it, twice, and the second adds little', async () => {
  using disk = loopFilesystem({ sizeMiB: 128 });
  const still = join(disk.mountPoint, 'still');
  mkdirSync(still);
  for (let i = 0; i < 300; i++) writeFileSync(join(still, `${i}`), randomBytes(1000 + i * 300));
  writeFileSync(join(still, 'large'), randomBytes(12 * MIB));
  await using library = await openTestLibrary({ codec: (await openFastestCodec()).codec });
  const { account } = library;
  await using _writer = await startBusyWriter(disk.mountPoint);
  let last = 0;
  for (const round of [1, 2]) {
    // Its bytes are never the same twice, and nothing that is deleted may come back.
    writeFileSync(join(still, 'round'), randomBytes(50_000));
    await writerPasses(disk.mountPoint, last);
    const image = await ingest(disk, account);
    assert.equal(image.capture.consistency, 'frozen');
    const path = join(disk.scratch, `round-${round}.img`);
    await restore(account, image, path);
    run('e2fsck', '-fn', path);
    const folder = disk.mountImage(path, 'loop,ro,noload');
    assert.deepEqual(differences(treeOf(still), treeOf(join(folder, 'still'))), []);
    const [first, second] = ['first', 'second'].map((name) => numberIn(join(folder, name)));
    assert.ok(first !== undefined && second !== undefined);
    // The second file follows the first by one write, at any instant.
    assert.ok(first === second || first === second + 1, `${first} and ${second}`);
    assert.ok(second > last, `${second} after ${last}`);
    last = second;
    if (round === 2) assert.ok(image.addedBytes < 4 * MIB, `${image.addedBytes} bytes added`);
    disk.unmountImages();
  }
  // Nothing is left frozen: the writer goes on.
  await writerPasses(disk.mountPoint, numberIn(join(disk.mountPoint, 'second')));
});
