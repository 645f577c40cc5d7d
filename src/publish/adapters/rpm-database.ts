import { mkdtemp, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { IngotError } from '../../base/index.ts';
import type { PackageDatabase } from '../image-files/packages.ts';

/** The database of a system with 3000 packages has 100 MB. */
const MAX_FILE_BYTES = 512 * 1024 * 1024;

/**
 * Reads databases of rpm with SQLite, on copies in a folder that is gone afterwards.
 *
 * @param parent where the folder is made
 * @see docs/formats/rpm-database.md
 */
export function rpmDatabases(parent: string): PackageDatabase {
  return {
    async *headers(files) {
      await using folder = new AsyncDisposableStack();
      const path = await mkdtemp(join(parent, 'ingot-rpm-'));
      folder.defer(() => rm(path, { recursive: true, force: true }));
      const main = join(path, 'rpmdb.sqlite');
      await copyOut(files.main, main);
      // What was not yet moved into the main file when the image was taken.
      if (files.log !== undefined) await copyOut(files.log, `${main}-wal`);
      yield* headersOf(main);
    },
  };
}

async function copyOut(content: AsyncIterable<Buffer>, path: string): Promise<void> {
  await using file = await open(path, 'wx', 0o600);
  let total = 0;
  for await (const piece of content) {
    total += piece.length;
    if (total > MAX_FILE_BYTES) {
      throw new IngotError('filesystem-malformed', `an rpm database has more than ${total} bytes`);
    }
    await file.writeFile(piece);
  }
}

function* headersOf(path: string): Generator<Buffer, void, undefined> {
  const database = new DatabaseSync(path, { allowExtension: false });
  try {
    database.exec('PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;');
    const table = database
      .prepare("SELECT sql FROM sqlite_master WHERE name = 'Packages' AND type = 'table'")
      .get();
    if (!/^CREATE TABLE\b/i.test(String(table?.['sql'] ?? ''))) {
      throw new IngotError('filesystem-malformed', 'an rpm database has no table of packages');
    }
    for (const row of database.prepare('SELECT blob FROM Packages').iterate()) {
      const blob = row['blob'];
      if (!(blob instanceof Uint8Array)) {
        throw new IngotError('filesystem-malformed', 'an rpm database has a package of no bytes');
      }
      yield Buffer.from(blob.buffer, blob.byteOffset, blob.byteLength);
    }
  } catch (cause) {
    if (cause instanceof IngotError) throw cause;
    throw new IngotError('filesystem-malformed', 'an rpm database is damaged', {}, { cause });
  } finally {
    database.close();
  }
}
