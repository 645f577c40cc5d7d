import {
  type Clock,
  type Digest,
  type Id,
  IngotError,
  isFailure,
  type Log,
  MIB,
  newId,
} from '../../base/index.ts';
import type { DiskFormat } from '../../bytes/index.ts';
import type { Job } from '../jobs/job-catalogue.ts';
import type { JobRunner } from '../jobs/job-runner.ts';
import type { Catalogue, ImageRow } from '../library/catalogue.ts';
import type { Image, ImageDescription } from '../library/image.ts';
import type { ImportLimits, ImportOrder } from './import-order.ts';
import { ImportWork, type ImportWorkParts } from './import-work.ts';
import { RunningDigest, untilAborted } from './incoming-bytes.ts';
import type { UploadFile, UploadSpool } from './upload-spool.ts';

/** What imports work with; the library adds its own. */
export interface ImportParts extends Pick<ImportWorkParts, 'openSource' | 'openSpool'> {
  readonly spool: UploadSpool;
  readonly limits: ImportLimits;
}

/** What the library gives to its imports. */
export interface ImportHost extends Pick<ImportWorkParts, 'beginIngest' | 'workers'> {
  readonly catalogue: Catalogue;
  readonly jobs: JobRunner;
  readonly clock: Clock;
  readonly log: Log;
  /** @throws IngotError when the account may not describe an image like that */
  readonly check: (accountId: Id<'acc'>, description: ImageDescription) => Promise<void>;
}

/** What a new import is told. */
export interface ImportRequest {
  readonly description: ImageDescription;
  /** Digest and size of the bytes as they are sent. */
  readonly sha256: Digest | undefined;
  readonly sizeBytes: number | undefined;
  readonly format: DiskFormat | undefined;
  readonly freeSpace: 'zero' | 'keep';
}

/** One request's share of an upload. */
export interface UploadPart {
  /** Where its first byte belongs; `anew` forgets what came before. */
  readonly offsetBytes: number | 'anew';
  /** Size of the whole upload, where the request says it. */
  readonly totalBytes: number | undefined;
  /** Whether the upload is whole with it. */
  readonly isLast: boolean;
  /** Digest of the bytes of this part. */
  readonly partSha256: Digest | undefined;
  /** Digest of the whole upload. */
  readonly sha256: Digest | undefined;
}

/** How far an upload is. */
export interface UploadState {
  readonly image: Image;
  readonly offsetBytes: number;
  readonly sizeBytes: number | undefined;
  readonly expiresAt: number;
  /** Whether more bytes are awaited. */
  readonly isReceiving: boolean;
  /** The job that makes the image, once all has arrived. */
  readonly job: Job | undefined;
}

/** The calls of {@link Imports}, for one account. */
export interface AccountImports {
  begin(request: ImportRequest): Promise<UploadState>;
  upload(
    request: ImportRequest,
    body: AsyncIterable<Buffer>,
    part: UploadPart,
  ): Promise<UploadState>;
  state(imageId: Id<'img'>): Promise<UploadState>;
  receive(imageId: Id<'img'>, body: AsyncIterable<Buffer>, part: UploadPart): Promise<UploadState>;
  cancel(imageId: Id<'img'>): Promise<void>;
}

const HOUSEKEEPING_MS = 60_000;
/** Bytes between two looks at the free space of the disk. */
const LOOK_EVERY_BYTES = 64 * MIB;
/** The ingests of two imports would want the same cores; one may fetch while the other is made. */
const JOBS_AT_ONCE = 2;

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
  /** Requests that write, by image. */
  readonly #receiving = new Map<Id<'img'>, { abort: AbortController; end: Promise<void> }>();
  readonly #digests = new Map<Id<'img'>, RunningDigest>();
  readonly #end = new AbortController();
  readonly #housekeeping: Promise<void>;

  private constructor(host: ImportHost, parts: ImportParts) {
    this.#host = host;
    this.#spool = parts.spool;
    this.#limits = parts.limits;
    this.#work = new ImportWork({ ...host, ...parts });
    this.#housekeeping = this.#housekeep();
  }

  /** Goes on with what an earlier process was told. */
  static async open(host: ImportHost, parts: ImportParts): Promise<Imports> {
    const orders = await host.catalogue.importOrders();
    await parts.spool.sweep(new Set(orders.map(({ imageId }) => imageId)));
    const imports = new Imports(host, parts);
    host.jobs.learn('import', (job, control) => imports.#work.run(job, control), {
      atOnce: JOBS_AT_ONCE,
      onGivenUp: (job, reason) => imports.#fail(job.subject as Id<'img'>, reason),
    });
    for (const { imageId, accountId, state } of orders) {
      if (state === 'queued') await host.jobs.add('import', imageId, accountId);
    }
    return imports;
  }

  /**
   * Makes an image known whose bytes are to be sent.
   *
   * @throws IngotError `image-not-found` for its ancestor, `too-many-requests`, `library-full`,
   *   `request-too-large`
   */
  async begin(accountId: Id<'acc'>, request: ImportRequest): Promise<UploadState> {
    const image = await this.#add(accountId, request);
    return await this.state(accountId, image.id);
  }

  /**
   * Takes a whole upload with one request; when it breaks off, the image is `failed`.
   *
   * @throws IngotError as {@link begin} and {@link receive}
   */
  async upload(
    accountId: Id<'acc'>,
    request: ImportRequest,
    body: AsyncIterable<Buffer>,
    part: UploadPart,
  ): Promise<UploadState> {
    const { id } = await this.#add(accountId, request);
    try {
      return await this.receive(accountId, id, body, part);
    } catch (thrown) {
      await this.#fail(id, thrown);
      throw thrown;
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
    const before = this.#receiving.get(imageId);
    before?.abort.abort(new IngotError('ingest-expired', `${imageId} is sent by another request`));
    await before?.end;
    this.#end.signal.throwIfAborted();
    const abort = new AbortController();
    const end = Promise.withResolvers<void>();
    const own = { abort, end: end.promise };
    this.#receiving.set(imageId, own);
    try {
      const order = await this.#order(accountId, imageId);
      if (order.state !== 'receiving') {
        throw new IngotError('image-in-use', `${imageId} has arrived whole`, { imageId });
      }
      await this.#append(order, untilAborted(body, abort.signal), part);
      abort.signal.throwIfAborted();
      if (part.isLast) return await this.#finish(imageId, part.sha256);
    } finally {
      if (this.#receiving.get(imageId) === own) this.#receiving.delete(imageId);
      end.resolve();
    }
    return await this.state(accountId, imageId);
  }

  /**
   * Gives an import up, whatever it is doing; its image is `failed`.
   *
   * @throws IngotError `image-not-found` when it has ended
   */
  async cancel(accountId: Id<'acc'>, imageId: Id<'img'>): Promise<void> {
    const order = await this.#order(accountId, imageId);
    const reason = new IngotError('not-allowed', 'it was given up by its owner');
    const receiving = this.#receiving.get(imageId);
    receiving?.abort.abort(reason);
    await receiving?.end;
    const job = await this.#jobOf(order);
    if (job !== undefined) await this.#host.jobs.cancel(job.id);
    await this.#work.ended(imageId);
    await this.#fail(imageId, reason);
  }

  /** The imports as one account sees them. */
  forAccount(accountId: Id<'acc'>): AccountImports {
    return {
      begin: (request) => this.begin(accountId, request),
      upload: (request, body, part) => this.upload(accountId, request, body, part),
      state: (imageId) => this.state(accountId, imageId),
      receive: (imageId, body, part) => this.receive(accountId, imageId, body, part),
      cancel: (imageId) => this.cancel(accountId, imageId),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const reason = new IngotError('library-busy', 'the daemon ends');
    this.#end.abort(reason);
    for (const { abort } of this.#receiving.values()) abort.abort(reason);
    await Promise.all([...this.#receiving.values()].map(({ end }) => end));
    await this.#housekeeping;
  }

  async #add(accountId: Id<'acc'>, request: ImportRequest): Promise<ImageRow> {
    const { catalogue, clock, check } = this.#host;
    const { description, ...order } = request;
    this.#end.signal.throwIfAborted();
    await check(accountId, description);
    await this.#checkRoom(0, request.sizeBytes ?? 0);
    const own = (await catalogue.importOrders()).filter((one) => one.accountId === accountId);
    if (own.length >= this.#limits.perAccount) {
      throw new IngotError('too-many-requests', `${accountId} has ${own.length} imports already`, {
        count: own.length,
      });
    }
    for (;;) {
      const row = newRow(accountId, request, clock.now());
      const isNew = await catalogue.addImport(row, {
        ...order,
        imageId: row.id,
        accountId,
        state: 'receiving',
        url: undefined,
        touchedAt: clock.now(),
      });
      if (!isNew) continue;
      await this.#spool.make(row.id);
      return row;
    }
  }

  async #append(order: ImportOrder, body: AsyncIterable<Buffer>, part: UploadPart): Promise<void> {
    const { imageId } = order;
    if (part.offsetBytes === 'anew') {
      await this.#spool.truncate(imageId, 0);
      this.#digests.delete(imageId);
    }
    const startByte = await this.#spool.sizeOf(imageId);
    if (part.offsetBytes !== 'anew' && part.offsetBytes !== startByte) {
      throw new IngotError(
        'offset-mismatch',
        `${imageId} goes on at byte ${startByte}, not ${part.offsetBytes}`,
        { offsetBytes: startByte },
      );
    }
    const totalBytes = await this.#agreeOnSize(order, part.totalBytes);
    await this.#checkRoom(startByte, totalBytes ?? startByte);
    const expected = part.sha256 ?? order.sha256;
    const whole = expected === undefined ? undefined : await this.#digestUpTo(imageId, startByte);
    const ofPart = part.partSha256 === undefined ? undefined : new RunningDigest();
    try {
      await using file = await this.#spool.append(imageId);
      try {
        const limitBytes = totalBytes ?? this.#limits.uploadBytes;
        for await (const bytes of this.#withRoom(body, file, limitBytes)) {
          await file.append(bytes);
          whole?.update(bytes);
          ofPart?.update(bytes);
        }
      } finally {
        await file.datasync();
        await this.#host.catalogue.changeImport(imageId, { touchedAt: this.#host.clock.now() });
      }
    } catch (thrown) {
      // What was written and what was hashed may differ by a piece.
      this.#digests.delete(imageId);
      throw thrown;
    }
    if (ofPart !== undefined && ofPart.value() !== part.partSha256) {
      await this.#spool.truncate(imageId, startByte);
      this.#digests.delete(imageId);
      throw digestMismatch('the part', ofPart.value(), part.partSha256);
    }
  }

  /** Passes bytes on as long as they may be kept. */
  async *#withRoom(
    body: AsyncIterable<Buffer>,
    file: UploadFile,
    limitBytes: number,
  ): AsyncGenerator<Buffer, void, undefined> {
    let lookAt = file.sizeBytes + LOOK_EVERY_BYTES;
    for await (const bytes of body) {
      const sizeBytes = file.sizeBytes + bytes.byteLength;
      if (sizeBytes > limitBytes) {
        throw new IngotError('request-too-large', `the upload has more than ${limitBytes} bytes`, {
          limitBytes,
        });
      }
      if (sizeBytes >= lookAt) {
        await this.#checkRoom(file.sizeBytes, sizeBytes);
        lookAt = sizeBytes + LOOK_EVERY_BYTES;
      }
      yield bytes;
    }
  }

  async #agreeOnSize(order: ImportOrder, said: number | undefined): Promise<number | undefined> {
    if (said === undefined || said === order.sizeBytes) return order.sizeBytes;
    if (order.sizeBytes !== undefined) {
      throw new IngotError(
        'request-invalid',
        `the upload was to have ${order.sizeBytes} bytes, not ${said}`,
      );
    }
    await this.#host.catalogue.changeImport(order.imageId, { sizeBytes: said });
    return said;
  }

  /** @throws IngotError `request-too-large`, `library-full` */
  async #checkRoom(haveBytes: number, wantBytes: number): Promise<void> {
    const { uploadBytes, diskReserveBytes } = this.#limits;
    if (wantBytes > uploadBytes) {
      throw new IngotError(
        'request-too-large',
        `an upload has at most ${uploadBytes} bytes, not ${wantBytes}`,
        { limitBytes: uploadBytes },
      );
    }
    const freeBytes = await this.#spool.freeBytes();
    if (freeBytes - (wantBytes - haveBytes) >= diskReserveBytes) return;
    throw new IngotError(
      'library-full',
      `the disk has ${freeBytes} bytes free, of which ${diskReserveBytes} stay free`,
      { freeBytes, diskReserveBytes },
    );
  }

  /** The digest of what was received so far; what this process has not hashed is read again. */
  async #digestUpTo(imageId: Id<'img'>, sizeBytes: number): Promise<RunningDigest> {
    const known = this.#digests.get(imageId);
    if (known?.countBytes === sizeBytes) return known;
    const digest = new RunningDigest();
    if (sizeBytes > 0) {
      for await (const bytes of this.#spool.read(imageId)) digest.update(bytes);
    }
    this.#digests.set(imageId, digest);
    return digest;
  }

  /** Everything has arrived: checks it, and hands it to a job. */
  async #finish(imageId: Id<'img'>, saidSha256: Digest | undefined): Promise<UploadState> {
    const { catalogue, jobs } = this.#host;
    const order = await catalogue.importOrder(imageId);
    if (order === undefined) throw gone(imageId);
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
      for (const expected of [saidSha256, order.sha256]) {
        if (expected === undefined) continue;
        const found = (await this.#digestUpTo(imageId, sizeBytes)).value();
        if (found !== expected) throw digestMismatch('the upload', found, expected);
      }
    } catch (thrown) {
      // Bytes that are wrong do not become right by more of them.
      if (isFailure(thrown)) await this.#fail(imageId, thrown);
      throw thrown;
    }
    this.#digests.delete(imageId);
    // Before the job begins, which may be over before it is described.
    const state = await this.#stateOf({ ...order, state: 'queued', sizeBytes }, undefined);
    await catalogue.changeImport(imageId, { state: 'queued', sizeBytes });
    return { ...state, job: await jobs.add('import', imageId, order.accountId) };
  }

  async #stateOf(order: ImportOrder, job: Job | undefined): Promise<UploadState> {
    const { imageId, sizeBytes, touchedAt, state } = order;
    const image = await this.#host.catalogue.image(imageId);
    if (image === undefined) throw gone(imageId);
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
    throw gone(imageId);
  }

  async #jobOf({ imageId, state }: ImportOrder): Promise<Job | undefined> {
    if (state !== 'queued') return undefined;
    const open = await this.#host.jobs.list({ isOpen: true, limit: 1000 });
    return open.find(({ kind, subject }) => kind === 'import' && subject === imageId);
  }

  async #fail(imageId: Id<'img'>, reason: unknown): Promise<void> {
    const words = isFailure(reason) ? reason.message : 'an error inside the daemon';
    await this.#host.catalogue.endImport(imageId, words);
    this.#digests.delete(imageId);
    await this.#spool.remove(imageId);
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
      if (state !== 'receiving' || !isOld || this.#receiving.has(imageId)) continue;
      log.info('an abandoned upload is removed', { imageId });
      await this.#fail(imageId, new IngotError('ingest-expired', 'the upload was abandoned'));
    }
  }
}

function newRow(accountId: Id<'acc'>, request: ImportRequest, now: number): ImageRow {
  return {
    ...request.description,
    id: newId('img'),
    ownerId: accountId,
    status: 'creating',
    isPublic: false,
    isOfficial: false,
    isLocked: false,
    createdAt: now,
    virtualSizeBytes: 0,
    gzipSizeBytes: 0,
    addedBytes: 0,
    plainDigest: undefined,
    claimedDigest: undefined,
    chunkRule: '',
    pageCount: 0,
    capture: {
      consistency: 'crash-consistent',
      freezeMs: 0,
      filesystem: undefined,
      source: request.description.name,
      freeSpace: request.freeSpace,
    },
  };
}

function gone(imageId: Id<'img'>): IngotError {
  return new IngotError('image-not-found', `nothing is being sent for ${imageId}`, { imageId });
}

function digestMismatch(what: string, found: Digest, expected: Digest | undefined): IngotError {
  return new IngotError(
    'source-digest-mismatch',
    `${what} has the digest ${found}, not ${expected}`,
    { found, expected: expected ?? '' },
  );
}
