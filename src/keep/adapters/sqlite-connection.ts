import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import { IngotError } from '../../base/index.ts';
import { INDEX_STEPS, SESSION_TABLES, STATE_STEPS } from './sqlite-schema.ts';

/** A row as SQLite gives it. */
export type Row = Record<string, SQLInputValue>;

/**
 * One connection to both files of the catalogue: the index as `main`, the state as `state`.
 *
 * Both are in WAL mode with synchronous=FULL: a transaction that returned survives a power cut. No
 * transaction spans both files (in WAL mode that would not be atomic).
 */
export class SqliteConnection {
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();

  /** @param files paths, or `:memory:` for both in tests */
  constructor(files: { readonly indexFile: string; readonly stateFile: string }) {
    this.#database = translated(() => new DatabaseSync(files.indexFile));
    try {
      translated(() => {
        this.#database.exec('PRAGMA foreign_keys = OFF; PRAGMA temp_store = FILE;');
        this.#database.prepare('ATTACH ? AS state').run(files.stateFile);
        for (const schema of ['main', 'state']) {
          this.#database.exec(
            `PRAGMA ${schema}.journal_mode = WAL; PRAGMA ${schema}.synchronous = FULL;` +
              `PRAGMA ${schema}.cache_size = -16384; PRAGMA ${schema}.journal_size_limit = 67108864;`,
          );
        }
        this.#migrate('main', files.indexFile, INDEX_STEPS);
        this.#migrate('state', files.stateFile, STATE_STEPS);
        this.#database.exec(SESSION_TABLES);
      });
    } catch (error) {
      this.#database.close();
      throw error;
    }
  }

  /** Runs a statement that changes rows; returns how many. */
  run(sql: string, ...values: SQLInputValue[]): number {
    return Number(this.#statement(sql).run(...values).changes);
  }

  /** Runs a statement that makes one row; returns its number. */
  insert(sql: string, ...values: SQLInputValue[]): number {
    return Number(this.#statement(sql).run(...values).lastInsertRowid);
  }

  get(sql: string, ...values: SQLInputValue[]): Row | undefined {
    return this.#statement(sql).get(...values) as Row | undefined;
  }

  all(sql: string, ...values: SQLInputValue[]): Row[] {
    return this.#statement(sql).all(...values) as Row[];
  }

  /** Gives rows as arrays of columns: half the cost of objects, for queries of many rows. */
  values(sql: string, ...values: SQLInputValue[]): SQLInputValue[][] {
    const statement = this.#statement(sql);
    statement.setReturnArrays(true);
    return statement.all(...values) as unknown as SQLInputValue[][];
  }

  /** Runs `work` as one transaction; rolls back when it throws. */
  transaction<T>(work: () => T): T {
    return translated(() => {
      this.#database.exec('BEGIN IMMEDIATE');
      try {
        const result = work();
        this.#database.exec('COMMIT');
        return result;
      } catch (error) {
        if (this.#database.isTransaction) this.#database.exec('ROLLBACK');
        throw error;
      }
    });
  }

  /** Writes a whole copy of the state to a new file. */
  backup(file: string): void {
    translated(() => this.#database.prepare('VACUUM state INTO ?').run(file));
  }

  close(): void {
    this.#statements.clear();
    this.#database.close();
  }

  #statement(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.#database.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  #migrate(schema: string, file: string, steps: readonly string[]): void {
    const version = Number(
      this.#database.prepare(`PRAGMA ${schema}.user_version`).get()?.['user_version'],
    );
    if (version > steps.length) {
      throw new IngotError(
        'version-unknown',
        `${file} has schema ${version}; this program knows up to ${steps.length}`,
        { version },
      );
    }
    for (let step = version; step < steps.length; step++) {
      this.#database.exec('BEGIN IMMEDIATE');
      this.#database.exec(steps[step] ?? '');
      this.#database.exec(`PRAGMA ${schema}.user_version = ${step + 1}`);
      this.#database.exec('COMMIT');
    }
  }
}

const SQLITE_FULL = 13;
/** Result codes that tell of the machine or the file, not of a bug (sqlite.org/rescode.html). */
const UNUSABLE = new Map([
  [8, 'READONLY'],
  [10, 'IOERR'],
  [11, 'CORRUPT'],
  [14, 'CANTOPEN'],
  [26, 'NOTADB'],
]);

/** Runs `work`; what SQLite tells of the machine becomes an IngotError. */
export function translated<T>(work: () => T): T {
  try {
    return work();
  } catch (cause) {
    if (!(cause instanceof Error) || !('errcode' in cause)) throw cause;
    const code = Number(cause.errcode) & 0xff;
    if (code === SQLITE_FULL) {
      throw new IngotError('library-full', 'the catalogue found no space', {}, { cause });
    }
    const name = UNUSABLE.get(code);
    if (name === undefined) throw cause;
    throw new IngotError(
      'library-unusable',
      `the catalogue is unusable: ${name}: ${cause.message}`,
      {},
      { cause },
    );
  }
}
