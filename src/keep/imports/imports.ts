import {
  type Clock,
  type Digest,
  type Id,
  IngotError,
  isFailure,
  type Log,
} from '../../base/index.ts';
import type { Job } from '../jobs/job-catalogue.ts';
import { type JobRunner, reasonOf } from '../jobs/job-runner.ts';
import type { Catalogue, ImageRow } from '../library/catalogue.ts';
import type { ImageDescription } from '../library/image.ts';
import type { Traffic } from '../library/traffic.ts';
import {
  HandedFiles,
  type HandedOutput,
  type HandoverOffer,
  type OpenHandover,
} from './handed-files.ts';
import type { ImportLimits, ImportOrder } from './import-order.ts';
import {
  type AccountImports,
  type ImportRequest,
  newImportRow,
  type UploadPart,
  type UploadState,
} from './import-request.ts';
import { ImportWork, type ImportWorkParts } from './import-work.ts';
import { IncomingFiles } from './incoming-files.ts';
import { RunningUploads, uploadGone } from './running-uploads.ts';
import { removeReceived, type UploadSpool } from './upload-spool.ts';
import { importUrl } from './url-source.ts';

/** What imports work with; the library adds its own. */
export interface ImportParts extends Pick<ImportWorkParts, 'openSource' | 'openSpool' | 'openUrl'> {
  readonly spool: UploadSpool;
  readonly limits: ImportLimits;
  readonly openHandover: OpenHandover;
}

/** What the library gives to its imports. */
export interface ImportHost extends Pick<ImportWorkParts, 'beginIngest' | 'workers'> {
  readonly catalogue: Catalogue;
  readonly jobs: JobRunner;
  readonly clock: Clock;
  readonly log: Log;
  /** Told of bytes that arrive. */
  readonly traffic: Pick<Traffic, 'touch'>;
  /** @throws IngotError when the account may not describe an image like that */
  readonly check: (accountId: Id<'acc'>, description: ImageDescription) => Promise<void>;
}

const HOUSEKEEPING_MS = 60_000;
/** One of them unpacks, cuts and compresses, the others fetch. */
const JOBS_AT_ONCE = 6;

/**
 * Images that the daemon makes from bytes that it is sent: `creating` from the first word on, then
 * `available`, or `failed` with the reason (docs/imports.md).
 *
 * Orders and what was received survive a restart. Disposal ends running requests.
 */
export class Imports implements AsyncDisposable {
  readonly #host: ImportHost;
  readonly #spool: UploadSpool;
  readonly #limits: ImportLimits;
  readonly #work: ImportWork;
  readonly #files: IncomingFiles;
  readonly #handed: HandedFiles;
  readonly #uploads: RunningUploads;
  /** Uploads in one request that broke off in this process, the oldest first. */
  readonly #broken = new Set<Id<'img'>>();
  readonly #end = new AbortController();
  readonly #housekeeping: Promise<void>;

  private constructor(host: ImportHost, parts: ImportParts) {
    this.#host = host;
    this.#spool = parts.spool;
    this.#limits = parts.limits;
    this.#files = new IncomingFiles(parts.spool, parts.limits, host.traffic);
    this.#uploads = new RunningUploads({ ...host, ...parts, files: this.#files });
    this.#handed = new HandedFiles(parts.openHandover, host.clock);
    this.#work = new ImportWork({ ...host, ...parts, files: this.#files, handed: this.#handed });
    this.#housekeeping = this.#housekeep();
  }

  /** Goes on with what an earlier process was told. */
  static async open(host: ImportHost, parts: ImportParts): Promise<Imports> {
    const orders = await host.catalogue.importOrders();
    try {
      await parts.spool.sweep(new Set(orders.map(({ imageId }) => imageId)));
    } catch (error) {
      host.log.warn('uploads that are over could not be removed', { error: String(error) });
    }
    // A process that ended behind an order may not have come to its folder.
    for (const { imageId } of orders) await parts.spool.make(imageId);
    const imports = new Imports(host, parts);
    host.jobs.learn('import', (job, control) => imports.#work.run(job, control), {
      atOnce: JOBS_AT_ONCE,
      onGivenUp: (job, reason) => imports.#fail(job.subject as Id<'img'>, reason),
    });
    for (const order of orders) if (order.state === 'queued') await imports.#goOn(order);
    return imports;
  }

  /**
   * Makes an image known whose bytes are to be sent, or fetched, or read from a file of this machine.
   *
   * @throws IngotError `request-invalid` for what is no URL to fetch from, `image-not-found` for its
   *   ancestor, `too-many-requests`, `library-full`, `request-too-large`; `source-not-found`,
   *   `source-unreadable` and `not-allowed` for a file that was not handed over
   */
  async begin(accountId: Id<'acc'>, request: ImportRequest): Promise<UploadState> {
    if (request.url !== undefined) importUrl(request.url);
    if (request.handover !== undefined) return await this.#beginHanded(accountId, request);
    const { id } = await this.#add(accountId, request);
    const state = await this.state(accountId, id);
    if (request.url === undefined) return state;
    return { ...state, job: await this.#host.jobs.add('import', id, accountId) };
  }

  /**
   * Offers a place where a process of this machine leaves an open file for {@link begin}.
   *
   * @throws IngotError `too-many-requests`
   */
  offer(accountId: Id<'acc'>): HandoverOffer {
    this.#end.signal.throwIfAborted();
    return this.#handed.offer(accountId);
  }

  /**
   * Takes a file that was left at an offer to be written.
   *
   * @param name for people
   * @throws IngotError `source-not-found`, `not-allowed`, `too-many-requests`
   */
  async takeOutput(accountId: Id<'acc'>, key: string, name: string): Promise<HandedOutput> {
    this.#end.signal.throwIfAborted();
    return await this.#handed.takeOutput(accountId, key, name);
  }

  /**
   * Takes a whole upload with one request. When it breaks off, what came is kept like a part, and
   * the image waits for the rest of it.
   *
   * @param onBegun told of the image before its first byte is taken
   * @throws IngotError as {@link begin} and {@link receive}, with the image and how far it came among
   *   its facts where it can be gone on with
   */
  async upload(
    accountId: Id<'acc'>,
    request: ImportRequest,
    body: AsyncIterable<Buffer>,
    part: UploadPart,
    onBegun: (imageId: Id<'img'>) => void = () => undefined,
  ): Promise<UploadState> {
    // Whoever goes on with it need not say these again.
    const sha256 = request.sha256 ?? part.sha256;
    const sizeBytes = request.sizeBytes ?? part.totalBytes;
    const { id: imageId } = await this.#add(accountId, { ...request, sha256, sizeBytes });
    try {
      onBegun(imageId);
      return await this.receive(accountId, imageId, body, part);
    } catch (thrown) {
      const offsetBytes = await this.#spool.sizeOf(imageId);
      if (offsetBytes === 0 || isHopeless(thrown)) {
        await this.#fail(imageId, thrown);
        throw thrown;
      }
      this.#broken.add(imageId);
      if (!isFailure(thrown)) throw thrown;
      const facts = { ...thrown.facts, imageId, offsetBytes };
      throw new IngotError(thrown.code, thrown.message, facts, { cause: thrown });
    }
  }

  /** @throws IngotError `image-not-found` when no upload of the account makes this image */
  async state(accountId: Id<'acc'>, imageId: Id<'img'>): Promise<UploadState> {
    const order = await this.#order(accountId, imageId);
    return await this.#stateOf(order, await this.#jobOf(order));
  }

  /**
   * Adds bytes to an upload. A request that still writes to it is ended: its sender is gone. What
   * arrived before a request broke off stays.
   *
   * @throws IngotError `image-not-found`, `offset-mismatch` with the right one, `request-too-large`,
   *   `library-full`, `source-digest-mismatch`, `source-size-mismatch`, `source-truncated`
   */
  async receive(
    accountId: Id<'acc'>,
    imageId: Id<'img'>,
    body: AsyncIterable<Buffer>,
    part: UploadPart,
  ): Promise<UploadState> {
    await this.#order(accountId, imageId);
    this.#end.signal.throwIfAborted();
    const state = await this.#uploads.receive(imageId, body, part, async ({ sizeBytes }) => {
      const isLast = part.isLast ?? sizeBytes === (await this.#spool.sizeOf(imageId));
      return isLast ? await this.#finish(imageId, part.sha256) : undefined;
    });
    return state ?? (await this.state(accountId, imageId));
  }

  /**
   * Gives an import up, whatever it is doing; its image is `failed`.
   *
   * @throws IngotError `image-not-found` when it has ended
   */
  async cancel(accountId: Id<'acc'>, imageId: Id<'img'>): Promise<void> {
    const order = await this.#order(accountId, imageId);
    const reason = new IngotError('not-allowed', 'it was given up by its owner');
    await this.#uploads.stop(imageId, reason);
    const job = await this.#jobOf(order);
    if (job !== undefined) await this.#host.jobs.cancel(job.id);
    await this.#work.ended(imageId);
    await this.#fail(imageId, reason);
  }

  /** The imports as one account sees them. */
  forAccount(accountId: Id<'acc'>): AccountImports {
    return {
      offer: () => this.offer(accountId),
      takeOutput: (key, name) => this.takeOutput(accountId, key, name),
      begin: (request) => this.begin(accountId, request),
      upload: (request, body, part, onBegun) =>
        this.upload(accountId, request, body, part, onBegun),
      state: (imageId) => this.state(accountId, imageId),
      receive: (imageId, body, part) => this.receive(accountId, imageId, body, part),
      cancel: (imageId) => this.cancel(accountId, imageId),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const reason = new IngotError('library-busy', 'the daemon ends');
    this.#end.abort(reason);
    await this.#uploads.stopAll(reason);
    await this.#housekeeping;
    await this.#handed[Symbol.asyncDispose]();
  }

  async #beginHanded(accountId: Id<'acc'>, request: ImportRequest): Promise<UploadState> {
    await using undo = new AsyncDisposableStack();
    const file = undo.use(await this.#handed.take(accountId, request.handover?.key ?? ''));
    if (file.sizeBytes === 0) throw new IngotError('source-truncated', 'the file is empty');
    if (file.sizeBytes > this.#limits.imageBytes) {
      throw new IngotError(
        'request-too-large',
        `a disk has at most ${this.#limits.imageBytes} bytes, not ${file.sizeBytes}`,
        { maxDiskBytes: this.#limits.imageBytes },
      );
    }
    const { id } = await this.#add(accountId, request);
    undo.move();
    this.#handed.keep(id, file);
    const state = await this.state(accountId, id);
    return { ...state, job: await this.#host.jobs.add('import', id, accountId) };
  }

  async #add(accountId: Id<'acc'>, request: ImportRequest): Promise<ImageRow> {
    const { catalogue, clock, check } = this.#host;
    const { description, handover, ...order } = request;
    const isWhole = request.url !== undefined || handover !== undefined;
    this.#end.signal.throwIfAborted();
    await check(accountId, description);
    await this.#files.checkRoom(0, request.sizeBytes ?? 0);
    const own = (await catalogue.importOrders()).filter((one) => one.accountId === accountId);
    if (own.length >= this.#limits.perAccount && !(await this.#giveUpBroken(own))) {
      throw new IngotError('too-many-requests', `${accountId} has ${own.length} imports already`, {
        count: own.length,
      });
    }
    for (;;) {
      const row = newImportRow(accountId, request, clock.now());
      const isNew = await catalogue.addImport(row, {
        ...order,
        imageId: row.id,
        accountId,
        state: isWhole ? 'queued' : 'receiving',
        touchedAt: clock.now(),
      });
      if (!isNew) continue;
      await this.#spool.make(row.id);
      return row;
    }
  }

  /**
   * Whoever sends a whole file again and again over a bad line never heard of what broke off: the
   * oldest of that makes room.
   */
  async #giveUpBroken(own: readonly ImportOrder[]): Promise<boolean> {
    const oldest = own
      .filter(({ imageId, state }) => state === 'receiving' && this.#broken.has(imageId))
      .find(({ imageId }) => !this.#uploads.isSent(imageId));
    if (oldest === undefined) return false;
    const reason = 'the upload broke off, and the account began others';
    await this.#fail(oldest.imageId, new IngotError('ingest-expired', reason));
    return true;
  }

  /** Goes on with what had arrived when an earlier process ended, unless it was given up by then. */
  async #goOn({ imageId, accountId }: ImportOrder): Promise<void> {
    const { catalogue, jobs } = this.#host;
    const last = await catalogue.lastJob('import', imageId);
    // A process that ended between the end of a job and that of its order.
    if (last?.state === 'cancelled' || last?.state === 'failed') {
      await this.#fail(imageId, reasonOf(last));
    } else {
      await jobs.add('import', imageId, accountId);
    }
  }

  /** Everything has arrived: checks it, and hands it to a job. */
  async #finish(imageId: Id<'img'>, saidSha256: Digest | undefined): Promise<UploadState> {
    const { catalogue, jobs } = this.#host;
    const order = await catalogue.importOrder(imageId);
    if (order === undefined) throw uploadGone(imageId);
    const sizeBytes = await this.#spool.sizeOf(imageId);
    if (order.sizeBytes !== undefined && order.sizeBytes !== sizeBytes) {
      throw new IngotError(
        'source-size-mismatch',
        `the upload ended with ${sizeBytes} of ${order.sizeBytes} bytes`,
        { offsetBytes: sizeBytes, sizeBytes: order.sizeBytes },
      );
    }
    try {
      if (sizeBytes === 0) throw new IngotError('source-truncated', 'the upload is empty');
      await this.#files.checkDigest(imageId, saidSha256);
      await this.#files.checkDigest(imageId, order.sha256);
    } catch (thrown) {
      // Bytes that are wrong do not become right by more of them.
      if (isFailure(thrown)) await this.#fail(imageId, thrown);
      throw thrown;
    }
    this.#files.forget(imageId);
    // Before the job begins, which may be over before it is described.
    const state = await this.#stateOf({ ...order, state: 'queued', sizeBytes }, undefined);
    await catalogue.changeImport(imageId, { state: 'queued', sizeBytes });
    return { ...state, job: await jobs.add('import', imageId, order.accountId) };
  }

  async #stateOf(order: ImportOrder, job: Job | undefined): Promise<UploadState> {
    const { imageId, sizeBytes, touchedAt, state } = order;
    const image = await this.#host.catalogue.image(imageId);
    if (image === undefined) throw uploadGone(imageId);
    return {
      image,
      offsetBytes: await this.#spool.sizeOf(imageId),
      sizeBytes,
      expiresAt: touchedAt + this.#limits.expiryMs,
      isReceiving: state === 'receiving',
      job,
    };
  }

  async #order(accountId: Id<'acc'>, imageId: Id<'img'>): Promise<ImportOrder> {
    const order = await this.#host.catalogue.importOrder(imageId);
    if (order?.accountId === accountId) return order;
    throw uploadGone(imageId);
  }

  async #jobOf({ imageId, state }: ImportOrder): Promise<Job | undefined> {
    if (state !== 'queued') return undefined;
    const open = await this.#host.jobs.list({ isOpen: true, limit: 1000 });
    return open.find(({ kind, subject }) => kind === 'import' && subject === imageId);
  }

  async #fail(imageId: Id<'img'>, reason: unknown): Promise<void> {
    const words = isFailure(reason) ? reason.message : 'an error inside the daemon';
    await this.#host.catalogue.endImport(imageId, words);
    this.#broken.delete(imageId);
    this.#files.forget(imageId);
    await this.#handed.forget(imageId);
    await removeReceived({ spool: this.#spool, log: this.#host.log }, imageId);
  }

  async #housekeep(): Promise<void> {
    const { clock, log } = this.#host;
    for (;;) {
      try {
        await clock.sleep(HOUSEKEEPING_MS, this.#end.signal);
      } catch {
        return;
      }
      try {
        await this.#expire();
      } catch (error) {
        log.error('abandoned uploads could not be removed', { error: String(error) });
      }
    }
  }

  async #expire(): Promise<void> {
    const { catalogue, clock, log } = this.#host;
    for (const { imageId, state, touchedAt } of await catalogue.importOrders()) {
      const isOld = touchedAt + this.#limits.expiryMs <= clock.now();
      if (state !== 'receiving' || !isOld || this.#uploads.isSent(imageId)) continue;
      log.info('an abandoned upload is removed', { imageId });
      await this.#fail(imageId, new IngotError('ingest-expired', 'the upload was abandoned'));
    }
  }
}

/** More bytes do not mend it. */
function isHopeless(thrown: unknown): boolean {
  const codes = ['request-too-large', 'source-digest-mismatch', 'source-truncated'];
  return isFailure(thrown) && codes.includes(thrown.code);
}
