import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, test } from 'node:test';
import { catalogueContract } from '../../../test/contracts/catalogue.ts';
import { isFailure } from '../../base/index.ts';
import type { Catalogue } from '../library/catalogue.ts';
import { memoryCatalogue, openSqliteCatalogue } from './sqlite-catalogue.ts';

async function inFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'ingot-catalogue-'));
  try {
    await work(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

catalogueContract('memory', async () => memoryCatalogue());

catalogueContract('two SQLite files', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'ingot-catalogue-'));
  const catalogue = await openSqliteCatalogue(folder);
  const both: Catalogue = {
    ...catalogue,
    async [Symbol.asyncDispose]() {
      await catalogue[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true });
    },
  };
  return both;
});

describe('the files of the catalogue', () => {
  test('a newer schema is refused, in either file', async () => {
    for (const name of ['index.db', 'state.db']) {
      await inFolder(async (folder) => {
        await (await openSqliteCatalogue(folder))[Symbol.asyncDispose]();
        const database = new DatabaseSync(join(folder, name));
        database.exec('PRAGMA user_version = 99');
        database.close();
        await assert.rejects(openSqliteCatalogue(folder), (error) =>
          isFailure(error, 'version-unknown'),
        );
      });
    }
  });

  test('a file that is no database is refused', async () => {
    await inFolder(async (folder) => {
      writeFileSync(join(folder, 'index.db'), 'x'.repeat(5000));
      await assert.rejects(openSqliteCatalogue(folder), (error) =>
        isFailure(error, 'library-unusable'),
      );
    });
  });
});
