import { join } from 'node:path';
import type { Catalogue } from '../library/catalogue.ts';
import { accountCalls } from './sqlite-accounts.ts';
import { SqliteConnection, translated } from './sqlite-connection.ts';
import { imageCalls } from './sqlite-images.ts';
import { importCalls } from './sqlite-imports.ts';
import { ingestCalls } from './sqlite-ingest.ts';
import { jobCalls } from './sqlite-jobs.ts';
import { upkeepCalls } from './sqlite-upkeep.ts';

/** The calls of a catalogue, without its end. */
export type CatalogueCalls = Omit<Catalogue, typeof Symbol.asyncDispose>;

/** The same calls, done at once instead of on another thread. */
export type SyncCatalogue = {
  [Name in keyof CatalogueCalls]: CatalogueCalls[Name] extends (
    ...values: infer Values
  ) => Promise<infer Result>
    ? (...values: Values) => Result
    : never;
};

/** The catalogue in this thread, and how to close it. */
export interface OpenCatalogue {
  readonly calls: SyncCatalogue;
  close(): void;
}

/**
 * Opens both files of the catalogue in this thread.
 *
 * @param folder the data directory, or undefined for a catalogue in memory (tests)
 * @throws IngotError `library-unusable`, `version-unknown`
 */
export function openCatalogue(folder: string | undefined): OpenCatalogue {
  const db = new SqliteConnection(
    folder === undefined
      ? { indexFile: ':memory:', stateFile: ':memory:' }
      : { indexFile: join(folder, 'index.db'), stateFile: join(folder, 'state.db') },
  );
  const calls = {
    ...ingestCalls(db),
    ...imageCalls(db),
    ...upkeepCalls(db),
    ...accountCalls(db),
    ...jobCalls(db),
    ...importCalls(db),
    backup: (path: string): void => db.backup(join(folder ?? '.', path)),
  } satisfies SyncCatalogue;
  return { calls, close: () => db.close() };
}

/** Does one call by its name. */
export function callCatalogue(calls: SyncCatalogue, name: string, values: unknown[]): unknown {
  const call = Object.hasOwn(calls, name) ? calls[name as keyof SyncCatalogue] : undefined;
  if (call === undefined) throw new TypeError(`a catalogue has no call ${name}`);
  return translated(() => (call as (...values: unknown[]) => unknown)(...values));
}
