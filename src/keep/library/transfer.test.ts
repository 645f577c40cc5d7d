import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { bytesOf, ingest, segmentOf } from '../../../test/contracts/ingest-session.ts';
import { ACCOUNT, openTestLibrary, readDisk } from '../../../test/contracts/test-library.ts';
import { isFailure } from '../../base/index.ts';
import { DirectoryDisk } from '../adapters/directory-disk.ts';

const RESTORE = join(import.meta.dirname, '../../../docs/restore-image.py');

/** Exports an image of a library, among others, and tells its disk and the library's public key. */
async function withExport(
  work: (exported: {
    folder: string;
    id: `img-${string}`;
    disk: Buffer;
    publicKey: string;
  }) => Promise<void>,
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'ingot-export-'));
  try {
    await using test = await openTestLibrary({ limits: { packBytes: 30_000 } });
    await ingest(
      test.account,
      'other',
      Array.from({ length: 9 }, (_, i) => segmentOf(bytesOf(i, 3000))),
    );
    const chunks = Array.from({ length: 90 }, (_, i) => segmentOf(bytesOf(5 + i, 3000)));
    const { id } = await ingest(test.account, 'one', [...chunks, 70_000, ...chunks.slice(0, 3)]);
    await test.library.exportImage(id, new DirectoryDisk(folder));
    const marker = readFileSync(join(test.folder, 'ingot-library.json'), 'utf8');
    const disk = await readDisk(test.account, id);
    await work({ folder, id, disk, publicKey: JSON.parse(marker).publicKey });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describe('an exported image', () => {
  test('is taken in by a library that trusts the exporting one, and by no other', async () => {
    await withExport(async ({ folder, id, disk, publicKey }) => {
      await using other = await openTestLibrary();
      const source = new DirectoryDisk(folder);
      await assert.rejects(other.library.importImage(ACCOUNT, id, source), (error) =>
        isFailure(error, 'manifest-invalid'),
      );
      const image = await other.library.importImage(ACCOUNT, id, source, { trust: [publicKey] });
      assert.notEqual(image.id, id);
      assert.equal(image.name, 'one');
      assert.ok((await readDisk(other.account, image.id)).equals(disk));
      assert.equal((await other.library.verify()).isClean, true);
      // Again: everything is there, nothing is added.
      const again = await other.library.importImage(ACCOUNT, id, source, { trust: [publicKey] });
      assert.equal(again.addedBytes, 0);
    });
  });

  test('with a damaged chunk is refused', async () => {
    await withExport(async ({ folder, id, publicKey }) => {
      const packs = execFileSync('find', [join(folder, 'packs'), '-type', 'f'], {
        encoding: 'utf8',
      });
      const pack = packs.split('\n')[0] ?? '';
      const bytes = readFileSync(pack);
      bytes.writeUInt8(bytes.readUInt8(500) ^ 1, 500);
      writeFileSync(pack, bytes);
      await using other = await openTestLibrary();
      const importing = other.library.importImage(ACCOUNT, id, new DirectoryDisk(folder), {
        trust: [publicKey],
      });
      await assert.rejects(importing, (error) => isFailure(error, 'segment-malformed'));
      assert.deepEqual(await other.account.list(), []);
    });
  });

  test('is restored by the script', async (t) => {
    if (spawnSync('python3', ['--version']).status !== 0) {
      t.skip('python3 is not installed');
      return;
    }
    await withExport(async ({ folder, id, disk }) => {
      execFileSync('python3', [RESTORE, folder, id, join(folder, 'disk.raw')]);
      assert.ok(readFileSync(join(folder, 'disk.raw')).equals(disk));
    });
  });

  test('goes into an empty directory only', async () => {
    await withExport(async ({ folder }) => {
      await using other = await openTestLibrary();
      const { id } = await ingest(other.account, 'x', [5]);
      await assert.rejects(other.library.exportImage(id, new DirectoryDisk(folder)), (error) =>
        isFailure(error, 'target-in-use'),
      );
    });
  });
});
