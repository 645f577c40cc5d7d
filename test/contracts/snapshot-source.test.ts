import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { after } from 'node:test';
import { openSnapshotSource } from '../../src/capture/adapters/open-snapshot-source.ts';
import { openSpooled, spoolFile } from '../../src/capture/adapters/spooled-snapshot.ts';
import { MemoryGuard, memorySnapshot } from '../fakes/memory-disk.ts';
import { snapshotSourceContract } from './snapshot-source.ts';

const folder = mkdtempSync(join(tmpdir(), 'ingot-source-'));
after(() => rmSync(folder, { recursive: true }));

snapshotSourceContract('a mounted disk in memory', () => {
  const plain = Buffer.alloc(300_000);
  randomBytes(100_000).copy(plain, 4096);
  randomBytes(50_000).copy(plain, 200_000);
  const guard = new MemoryGuard();
  const extents = [
    { offsetBytes: 4096, lengthBytes: 100_000 },
    { offsetBytes: 200_000, lengthBytes: 50_000 },
  ];
  return Promise.resolve({
    source: memorySnapshot(plain, extents, guard),
    plain,
    isFrozen: () => guard.isFrozen,
    loseFreeze: () => guard.lose(),
  });
});

snapshotSourceContract('an image file with holes', async () => {
  const data = randomBytes(70_001);
  const path = join(folder, 'image');
  writeFileSync(path, data);
  truncateSync(path, 500_003);
  const plain = Buffer.alloc(500_003);
  data.copy(plain);
  const source = await openSnapshotSource({
    source: path,
    freeSpace: undefined,
    freeze: true,
    limits: { maxFreezeMs: undefined, maxStallMs: 30_000 },
    forbiddenPaths: [],
  });
  return { source, plain, isFrozen: () => false, loseFreeze: undefined };
});

snapshotSourceContract('a stream that was spooled', async () => {
  const plain = randomBytes(300_007);
  const setup = {
    folder,
    name: 'stdin',
    freeSpace: 'keep',
    signal: new AbortController().signal,
  } as const;
  const pieces = Readable.from([plain.subarray(0, 100_000), plain.subarray(100_000)]);
  const source = await openSpooled(await spoolFile(pieces, setup), setup);
  return { source, plain, isFrozen: () => false, loseFreeze: undefined };
});
