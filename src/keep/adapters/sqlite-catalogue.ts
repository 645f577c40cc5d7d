import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { errnoOf, type FailureCode, type FailureFacts, IngotError } from '../../base/index.ts';
import type { Catalogue } from '../library/catalogue.ts';
import { type CatalogueCalls, callCatalogue, openCatalogue } from './sqlite-calls.ts';

/**
 * Opens the catalogue of a data directory: two SQLite files behind a worker thread.
 *
 * @param isIndexLost puts `index.db` aside as `index.db.damaged` and begins an empty one
 * @throws IngotError `library-unusable`, `version-unknown`
 */
export async function openSqliteCatalogue(
  folder: string,
  { isIndexLost = false }: { readonly isIndexLost?: boolean } = {},
): Promise<Catalogue> {
  if (isIndexLost) await putIndexAside(folder);
  const thread = new CatalogueThread(folder);
  try {
    await thread.call('open', []);
  } catch (error) {
    await thread.end();
    throw error;
  }
  return catalogueOver(
    (name, values) => thread.call(name, values),
    async () => {
      try {
        await thread.call('close', []);
      } finally {
        await thread.end();
      }
    },
  );
}

async function putIndexAside(folder: string): Promise<void> {
  for (const ending of ['', '-wal', '-shm']) {
    const file = join(folder, `index.db${ending}`);
    try {
      await rename(file, join(folder, `index.db.damaged${ending}`));
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error;
    }
  }
}

/** A catalogue in the memory of this process and on its thread, for tests that open thousands. */
export function memoryCatalogue(): Catalogue {
  const catalogue = openCatalogue(undefined);
  return catalogueOver(
    // Copied as a worker would: nobody may rely on sharing an object with the catalogue.
    async (name, values) => structuredClone(callCatalogue(catalogue.calls, name, values)),
    async () => catalogue.close(),
  );
}

type Call = (name: string, values: unknown[]) => Promise<unknown>;

const NAMES = [
  'accounts',
  'addAccount',
  'addClient',
  'addImport',
  'addJob',
  'addPack',
  'adoptImage',
  'adoptPage',
  'backup',
  'beginRebuild',
  'beginSession',
  'cancelJob',
  'changeImport',
  'chunksOfPack',
  'claimJob',
  'client',
  'clients',
  'commitImage',
  'condemn',
  'counts',
  'deliver',
  'endImport',
  'endQuarantine',
  'endRebuild',
  'endSession',
  'finishJob',
  'grant',
  'image',
  'imagePages',
  'images',
  'imagesWith',
  'imagesWithoutDigest',
  'importOrder',
  'importOrders',
  'interruptJobs',
  'isIndexIncomplete',
  'job',
  'jobCounts',
  'jobs',
  'lastJob',
  'locate',
  'movePack',
  'packUsage',
  'packs',
  'pages',
  'placesFor',
  'quarantine',
  'releaseJob',
  'releasePages',
  'reserveImage',
  'retirePack',
  'setPageLayout',
  'spare',
  'stagePages',
  'sweepPages',
  'touchJob',
  'unknownPages',
  'unreferenced',
  'updateClient',
  'updateImage',
] as const satisfies readonly (keyof CatalogueCalls)[];

/** Every call of the port is in {@link NAMES}; the type of `missing` says which one is not. */
type Missing = Exclude<keyof CatalogueCalls, (typeof NAMES)[number]>;

function catalogueOver(call: Call, end: () => Promise<void>): Catalogue {
  const missing: Missing extends never ? true : Missing = true;
  if (!missing) throw new TypeError('a call of the catalogue has no name');
  const calls = Object.fromEntries(
    NAMES.map((name) => [name, (...values: unknown[]) => call(name, values)]),
  ) as unknown as CatalogueCalls;
  let ended: Promise<void> | undefined;
  return {
    ...calls,
    async [Symbol.asyncDispose]() {
      ended ??= end();
      await ended;
    },
  };
}

interface Answer {
  readonly number: number;
  readonly result?: unknown;
  readonly failure?: { code: FailureCode; message: string; facts: FailureFacts };
  readonly bug?: unknown;
}

/** Numbers calls, and gives each answer to its caller. */
class CatalogueThread {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  #number = 0;
  #death: Error | undefined;
  #hasExited = false;

  constructor(folder: string) {
    this.#worker = new Worker(new URL('./sqlite-catalogue-worker.ts', import.meta.url), {
      workerData: folder,
    });
    this.#worker.on('message', (answer: Answer) => this.#settle(answer));
    this.#worker.on('error', (error) => this.#die(error));
    this.#worker.on('exit', () => {
      this.#hasExited = true;
      this.#die(new Error('its thread has ended'));
    });
  }

  async call(name: string, values: unknown[]): Promise<unknown> {
    if (this.#death !== undefined && (name !== 'close' || this.#hasExited)) {
      throw this.#unusable(this.#death);
    }
    this.#number += 1;
    const waiting = Promise.withResolvers<unknown>();
    this.#waiting.set(this.#number, waiting);
    this.#worker.postMessage({ number: this.#number, name, values });
    return await waiting.promise;
  }

  async end(): Promise<void> {
    await this.#worker.terminate();
  }

  #settle({ number, result, failure, bug }: Answer): void {
    const waiting = this.#waiting.get(number);
    this.#waiting.delete(number);
    if (failure !== undefined) {
      const error = new IngotError(failure.code, failure.message, failure.facts);
      // A file that could not be read or written may have lost a transaction: nothing more is
      // believed until the library was opened again.
      if (failure.code === 'library-unusable') this.#death ??= error;
      waiting?.reject(error);
    } else if (bug !== undefined) waiting?.reject(bug);
    else waiting?.resolve(result);
  }

  #die(error: unknown): void {
    this.#death ??= error instanceof Error ? error : new Error(String(error));
    for (const waiting of this.#waiting.values()) waiting.reject(this.#unusable(this.#death));
    this.#waiting.clear();
  }

  #unusable(cause: Error): IngotError {
    return new IngotError(
      'library-unusable',
      `the catalogue has ended: ${cause.message}`,
      {},
      {
        cause,
      },
    );
  }
}
