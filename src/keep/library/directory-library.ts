import {
  type Clock,
  type DigestStream,
  GIB,
  type Id,
  IngotError,
  inlineDigestStream,
  isId,
  type Log,
  MIB,
} from '../../base/index.ts';
import { PACK_TARGET_BYTES } from '../../bytes/index.ts';
import { Accounts } from '../accounts/accounts.ts';
import type { ChunkWorkers } from '../chunks/chunk-workers.ts';
import type { Disk } from '../chunks/disk.ts';
import { PackFiles } from '../chunks/pack-reader.ts';
import type { SegmentCodec } from '../chunks/segment-codec.ts';
import { type ImportHost, type ImportParts, Imports } from '../imports/imports.ts';
import type { Job } from '../jobs/job-catalogue.ts';
import { JobRunner } from '../jobs/job-runner.ts';
import { type Schedule, Schedules } from '../jobs/schedules.ts';
import { AccountView, type LibraryWorks, READABLE } from './account-view.ts';
import { backupState } from './backup.ts';
import type { Catalogue, ImageRow, LibraryCounts } from './catalogue.ts';
import { changeImage, destroyImage, finishDeletion } from './change-images.ts';
import { type CollectOptions, type CollectReport, collectGarbage } from './collect.ts';
import { createLibrary } from './create-library.ts';
import { checkHealth } from './health.ts';
import type { Image } from './image.ts';
import { ImageLeases } from './image-leases.ts';
import type { AccountLibrary, LibrarySession } from './image-library.ts';
import type { LibraryContext, LibraryLimits } from './library-context.ts';
import { readLibraryKey } from './library-key.ts';
import { ManifestFiles, makeLibraryFolders } from './manifest-files.ts';
import { Mutex } from './mutex.ts';
import { OpenSessions } from './open-sessions.ts';
import { PlainDigests } from './plain-digests.ts';
import { recoverLibrary } from './recover.ts';
import { Reserve } from './reserve.ts';
import { StoppingDisk } from './stopping-disk.ts';
import { Traffic } from './traffic.ts';
import { exportImage, type ImportOptions, importImage, type TransferOptions } from './transfer.ts';
import { type VerifyOptions, type VerifyReport, verifyLibrary } from './verify.ts';

/** What a library is opened with. */
export interface LibraryParts {
  readonly disk: Disk;
  /**
   * Called once the lock is held. The library closes it.
   *
   * @param isIndexLost whether a damaged index is put aside, and an empty one made
   */
  readonly openCatalogue: (options: { readonly isIndexLost: boolean }) => Promise<Catalogue>;
  readonly codec: SegmentCodec;
  /** Their owner ends them after the library. */
  readonly workers: ChunkWorkers;
  readonly clock: Clock;
  readonly log: Log;
  /** Computes digests of whole disks; on the library's own thread where it is left out. */
  readonly openDigestStream?: () => DigestStream;
  readonly limits?: Partial<LibraryLimits>;
  /** Makes the index again from packs and manifests before anything else. */
  readonly isRebuild?: boolean;
}

const LIMITS: LibraryLimits = {
  sessions: 64,
  sessionsPerAccount: 16,
  sessionIdleMs: 600_000,
  sessionBytes: 16 * 1024 * GIB,
  entries: 256 * 1024 * 1024,
  virtualBytes: 64 * 1024 * GIB,
  packBytes: PACK_TARGET_BYTES,
  digestBytes: 8 * GIB,
  quietMs: 5000,
  reserveBytes: 16 * MIB,
};
const HOUSEKEEPING_MS = 30_000;
/** Jobs for digests that are made with one look. */
const DIGESTS_AT_ONCE = 1000;
/** The subject of a collection that goes on whatever it removes. */
const FORCED = 'forced';

/**
 * The image library in one data directory (docs/library.md).
 *
 * One process has it open. Disposal ends sessions, waits for running work, and lets go of the lock.
 */
export class DirectoryLibrary implements AsyncDisposable {
  /** Who owns images, and what may act for them. */
  readonly accounts: Accounts;
  /** Verify, collection, backups and digests, as work that survives a restart. */
  readonly jobs: JobRunner;
  readonly #context: LibraryContext;
  readonly #sessions: OpenSessions;
  readonly #digests: PlainDigests;
  readonly #end = new AbortController();
  readonly #owned: AsyncDisposableStack;
  readonly #collectGate = new Mutex();
  #imports: Imports | undefined;
  /** Deletions that wait for nobody: ended before the library is. */
  readonly #pending = new Set<Promise<void>>();
  readonly #works: LibraryWorks = {
    begin: (accountId, description) => this.#begin(accountId, description),
    ingest: (accountId, id) => this.#sessions.of(accountId, id),
    change: (row, changes) => changeImage(this.#context, row, changes),
    destroy: (row) => destroyImage(this.#context, row, READABLE),
    forget: (row) => this.#forget(row),
    plainDigest: (imageId, signal) => this.#digests.of(imageId, { signal }),
  };

  private constructor(context: LibraryContext, owned: AsyncDisposableStack) {
    this.#context = context;
    this.#owned = owned;
    const { catalogue, clock, log } = context;
    this.#sessions = new OpenSessions(context, (row) => this.#onCommitted(row));
    this.#digests = new PlainDigests(context, (row, changes) => changeImage(context, row, changes));
    this.accounts = new Accounts(catalogue, clock);
    this.jobs = new JobRunner(catalogue, clock, log, {
      verify: async (job, control) => {
        const one = isId('img', job.subject) ? { imageId: job.subject } : {};
        const { signal, checkpoint, onProgress, keep } = control;
        const options = { ...one, signal, checkpoint, onProgress, keep };
        return JSON.stringify(await this.verify(options));
      },
      collect: async (job, { signal, onProgress }) => {
        const isForced = job.subject === FORCED;
        return JSON.stringify(await this.collect({ isForced, signal, onProgress }));
      },
      backup: async () => JSON.stringify({ file: await this.backup() }),
    });
    this.jobs.learn(
      'plain-digest',
      async (job, { signal, onProgress }) => {
        const wish = { signal, onProgress, mayWait: true };
        return JSON.stringify({ digest: await this.#digests.of(job.subject as Id<'img'>, wish) });
      },
      // One after the other, and never in the place of work that somebody waits for.
      { atOnce: 1, isReady: () => context.traffic.mayBegin },
    );
  }

  /**
   * Opens the library, or makes one in an empty directory; cleans up what a crash has left.
   *
   * @throws IngotError `library-busy` when another process has it, `version-unknown`,
   *   `library-unusable`
   */
  static async open(parts: LibraryParts): Promise<DirectoryLibrary> {
    await using undo = new AsyncDisposableStack();
    const isRebuild = parts.isRebuild ?? false;
    undo.use(await parts.disk.lock('lock'));
    const disk = new StoppingDisk(parts.disk);
    const key = (await readLibraryKey(disk)) ?? (await createLibrary(disk));
    await makeLibraryFolders(disk);
    const catalogue = undo.use(await parts.openCatalogue({ isIndexLost: isRebuild }));
    const packFiles = undo.use(new PackFiles(disk));
    const limits = { ...LIMITS, ...parts.limits };
    // The leases tell the library, which is made from a context that has the leases.
    let library: DirectoryLibrary | undefined;
    const context: LibraryContext = {
      disk,
      catalogue,
      packFiles,
      codec: parts.codec,
      workers: parts.workers,
      clock: parts.clock,
      log: parts.log,
      limits,
      libraryId: key.libraryId,
      key,
      manifests: new ManifestFiles(disk, key),
      leases: new ImageLeases((imageId) => {
        if (library !== undefined) library.#onFree(imageId);
      }),
      traffic: new Traffic(parts.clock, limits.quietMs),
      openDigestStream: parts.openDigestStream ?? inlineDigestStream,
      reserve: new Reserve(disk, limits.reserveBytes),
      pageGate: new Mutex(),
      imageGate: new Mutex(),
    };
    await recoverLibrary(context, isRebuild);
    await context.reserve.fill();
    library = new DirectoryLibrary(context, undo.move());
    await library.#queueDigests();
    await library.jobs.start();
    library.#track(library.#housekeep());
    library.#track(library.#useRests());
    return library;
  }

  async stats(): Promise<LibraryCounts> {
    return await this.#context.catalogue.counts();
  }

  /** Tells whether the library can do its work; with less than `keepFreeBytes` it is full. */
  async health(keepFreeBytes: number): ReturnType<typeof checkHealth> {
    return await checkHealth(this.#context, keepFreeBytes);
  }

  /** Reads everything, or one image, back and compares it with its digests. */
  async verify(options: VerifyOptions = {}): Promise<VerifyReport> {
    return await verifyLibrary(this.#context, options);
  }

  /**
   * Removes what no image and no running ingest needs. Safe beside everything else.
   *
   * @throws IngotError `not-allowed` when more than 30 % would go and it is not forced,
   *   `library-unusable` when catalogue and manifests disagree
   */
  async collect(options: CollectOptions = {}): Promise<CollectReport> {
    return await this.#collectGate.run(() => collectGarbage(this.#context, options));
  }

  /** Queues a collection; forced and unforced ones are two jobs. */
  async queueCollection(isForced: boolean): Promise<Job> {
    return await this.jobs.add('collect', isForced ? FORCED : '');
  }

  /** What other libraries must trust to take its exports in: 32 bytes in base64. */
  get publicKey(): string {
    return this.#context.key.publicKey;
  }

  /**
   * Copies an image into an empty directory, from which any library can take it in, and
   * docs/restore-image.py can restore it.
   *
   * @throws IngotError `image-not-found`, `chunk-corrupt`, `target-in-use` when it is not empty
   */
  async exportImage(
    imageId: Id<'img'>,
    target: Disk,
    options: TransferOptions = {},
  ): Promise<void> {
    const release = this.#context.leases.take(imageId);
    try {
      await exportImage(this.#context, imageId, target, options);
    } finally {
      release();
    }
  }

  /**
   * Takes an exported image in, under a new id; every byte is compared as in any other ingest.
   *
   * @throws IngotError `manifest-invalid` when somebody signed it whose key is not trusted
   */
  async importImage(
    accountId: Id<'acc'>,
    imageId: Id<'img'>,
    source: Disk,
    options: ImportOptions = {},
  ): Promise<Image> {
    return await importImage(this.#context, this.forAccount(accountId), imageId, source, options);
  }

  /**
   * Makes images of bytes that are sent to the daemon; what an earlier process was told goes on. The
   * caller disposes of it before the library.
   */
  async openImports(parts: ImportParts): Promise<Imports> {
    const { catalogue, clock, log, workers, traffic } = this.#context;
    const host: ImportHost = {
      catalogue,
      clock,
      log,
      workers,
      traffic,
      jobs: this.jobs,
      check: (accountId, description) => this.#view(accountId).check(description),
      beginIngest: (...about) => this.#begin(...about),
    };
    const imports = await Imports.open(host, parts);
    this.#imports = imports;
    return imports;
  }

  /** Queues work of the whole library by the clock. The caller disposes of it before the library. */
  async openSchedules(schedules: readonly Schedule[]): Promise<Schedules> {
    const { catalogue, clock, log } = this.#context;
    const madeAt = (await this.accounts.accounts())[0]?.createdAt ?? clock.now();
    return new Schedules({ catalogue, clock, log, jobs: this.jobs, madeAt }, schedules);
  }

  /** Copies the state to a new file in `backups/`. @returns its path in the data directory */
  async backup(): Promise<string> {
    return await backupState(this.#context);
  }

  /** The library as this account sees it. */
  forAccount(accountId: Id<'acc'>): AccountLibrary {
    return this.#view(accountId);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.abort(new IngotError('library-busy', 'the library is being closed'));
    await using _owned = this.#owned;
    await this.jobs[Symbol.asyncDispose]();
    await this.#digests[Symbol.asyncDispose]();
    await this.#sessions.abortAll();
    while (this.#pending.size > 0) await Promise.allSettled([...this.#pending]);
  }

  #view(accountId: Id<'acc'>): AccountView {
    return new AccountView(this.#context, this.#works, accountId);
  }

  async #begin(...about: Parameters<OpenSessions['begin']>): Promise<LibrarySession> {
    this.#end.signal.throwIfAborted();
    return await this.#sessions.begin(...about);
  }

  #onCommitted({ id, ownerId, virtualSizeBytes }: ImageRow): void {
    if (virtualSizeBytes > this.#context.limits.digestBytes) return;
    // Work that waits for nobody: after a crash the job is still there.
    this.#track(this.jobs.add('plain-digest', id, ownerId).then(() => undefined));
  }

  /** Queues the digests of images whose process ended before it could. */
  async #queueDigests(): Promise<void> {
    const { catalogue, limits } = this.#context;
    for (;;) {
      const images = await catalogue.imagesWithoutDigest(limits.digestBytes, DIGESTS_AT_ONCE);
      for (const { id, ownerId } of images) await this.jobs.add('plain-digest', id, ownerId);
      if (images.length < DIGESTS_AT_ONCE) return;
    }
  }

  /** Gives up what is still being made; then the image is `failed`, and goes like any other. */
  async #forget(row: ImageRow): Promise<void> {
    if (row.status === 'creating') await this.#imports?.cancel(row.ownerId, row.id);
    await destroyImage(this.#context, row, ['failed']);
  }

  #onFree(imageId: Id<'img'>): void {
    if (!this.#end.signal.aborted) this.#track(finishDeletion(this.#context, imageId));
  }

  async #housekeep(): Promise<void> {
    const { clock, reserve } = this.#context;
    while (!this.#end.signal.aborted) {
      try {
        await clock.sleep(HOUSEKEEPING_MS, this.#end.signal);
      } catch {
        return;
      }
      await this.#sessions.expire();
      await reserve.fill();
    }
  }

  /** Begins what can wait whenever nobody comes for a while. */
  async #useRests(): Promise<void> {
    const { signal } = this.#end;
    const { traffic } = this.#context;
    try {
      for (await traffic.rest(signal); ; await traffic.nextRest(signal)) this.jobs.lookAgain();
    } catch (thrown) {
      if (!signal.aborted) throw thrown;
    }
  }

  #track(work: Promise<void>): void {
    const tracked = work
      .catch((error: unknown) => {
        this.#context.log.error('work in the background failed', { error: String(error) });
      })
      .finally(() => this.#pending.delete(tracked));
    this.#pending.add(tracked);
  }
}
