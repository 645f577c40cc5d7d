import type { Id } from '../../base/index.ts';
import type {
  AccountImports,
  AccountLibrary,
  ApiClient,
  Job,
  JobRunner,
  LentBuffer,
  LibraryCounts,
  NewClient,
  ScheduleState,
} from '../../keep/index.ts';
import type { PublishedFile } from '../../publish/index.ts';

/** Who asks: an API client of an account. */
export interface Caller {
  readonly clientId: Id<'cli'>;
  readonly accountId: Id<'acc'>;
}

/** API clients as the native API asks for them. */
export interface NativeClients {
  /**
   * Compares a secret in constant time.
   *
   * @returns who it is, or undefined: a wrong id and a wrong secret look alike
   */
  authenticate(clientId: string, secret: string): Promise<Caller | undefined>;
  /** Tells whether a client that holds a token still exists. */
  isKnown(caller: Caller): Promise<boolean>;
  /** @returns the clients of the caller's account, the oldest first */
  list(caller: Caller): Promise<readonly ApiClient[]>;
  /** @throws IngotError `client-not-found`: also for a client of another account */
  show(caller: Caller, clientId: Id<'cli'>): Promise<ApiClient>;
  /** @throws IngotError `not-allowed` when the account has too many */
  create(caller: Caller, name: string): Promise<NewClient>;
  /**
   * Ends a client and its tokens.
   *
   * @throws IngotError `client-not-found`; `not-allowed` for the client that asks, so that an
   *   account always has one left
   */
  destroy(caller: Caller, clientId: Id<'cli'>): Promise<ApiClient>;
}

/** Upkeep of the whole library as the native API asks for it. */
export interface NativeUpkeep {
  readonly jobs: Pick<JobRunner, 'show' | 'list' | 'watch' | 'cancel'>;
  /** Tells whether the caller's account is the one that runs the daemon. */
  isOperator(caller: Caller): Promise<boolean>;
  stats(): Promise<LibraryCounts>;
  /** @returns what comes by the clock */
  schedules(): Promise<readonly ScheduleState[]>;
  /** @param one an image and who asks; undefined: the whole library */
  verify(
    one: { readonly imageId: Id<'img'>; readonly accountId: Id<'acc'> } | undefined,
  ): Promise<Job>;
  collect(isForced: boolean): Promise<Job>;
  backup(): Promise<Job>;
}

/** Forms that an image is given out in. */
export type ImageForm = 'raw' | 'gzip';

/** Everything that the native API does is done by these; `start/` wires them. */
export interface NativeBackend {
  readonly clients: NativeClients;
  readonly upkeep: NativeUpkeep;
  /** The library as the caller's account sees it. */
  library(caller: Caller): AccountLibrary;
  /** Images that are made of bytes as they are, without chunks. */
  imports(caller: Caller): AccountImports;
  /** Lends memory for a body of segments, in which the library checks them without a copy. */
  lend(lengthBytes: number): Promise<LentBuffer>;
  /** @throws IngotError `image-not-found`, `image-not-ready` */
  openFile(caller: Caller, id: Id<'img'>, form: ImageForm): Promise<PublishedFile>;
}
