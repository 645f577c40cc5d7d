import { type Clock, type Id, IngotError } from '../../base/index.ts';
import type { Catalogue } from '../library/catalogue.ts';
import type { ImportOrder } from './import-order.ts';
import type { UploadPart } from './import-request.ts';
import { untilAborted } from './incoming-bytes.ts';
import { digestMismatch, type IncomingFiles } from './incoming-files.ts';
import type { UploadSpool } from './upload-spool.ts';

/** What {@link RunningUploads} works with. */
interface UploadParts {
  readonly catalogue: Catalogue;
  readonly clock: Clock;
  readonly spool: UploadSpool;
  readonly files: IncomingFiles;
}

/** A request that writes to an upload. */
interface RunningRequest {
  readonly abort: AbortController;
  readonly end: Promise<void>;
}

/** Requests that send bytes: at most one for each upload, the newest. */
export class RunningUploads {
  readonly #parts: UploadParts;
  readonly #running = new Map<Id<'img'>, RunningRequest>();

  constructor(parts: UploadParts) {
    this.#parts = parts;
  }

  isSent(imageId: Id<'img'>): boolean {
    return this.#running.has(imageId);
  }

  /**
   * Adds bytes to an upload; ends the request that still writes to it.
   *
   * @param then called when all of the body is there, before another request may write, with the
   *   order as it was before this request
   * @throws IngotError as `Imports.receive`
   */
  async receive<T>(
    imageId: Id<'img'>,
    body: AsyncIterable<Buffer>,
    part: UploadPart,
    then: (order: ImportOrder) => Promise<T>,
  ): Promise<T> {
    await this.stop(
      imageId,
      new IngotError('ingest-expired', `${imageId} is sent by another request`),
    );
    const abort = new AbortController();
    const end = Promise.withResolvers<void>();
    const own = { abort, end: end.promise };
    this.#running.set(imageId, own);
    try {
      const order = await this.#parts.catalogue.importOrder(imageId);
      if (order === undefined) throw uploadGone(imageId);
      if (order.state !== 'receiving') {
        throw new IngotError('image-in-use', `${imageId} has arrived whole`, { imageId });
      }
      await this.#append(order, untilAborted(body, abort.signal), part);
      abort.signal.throwIfAborted();
      return await then(order);
    } finally {
      if (this.#running.get(imageId) === own) this.#running.delete(imageId);
      end.resolve();
    }
  }

  /** Ends the request that writes to an upload, and waits until it has. */
  async stop(imageId: Id<'img'>, reason: IngotError): Promise<void> {
    const running = this.#running.get(imageId);
    running?.abort.abort(reason);
    await running?.end;
  }

  async stopAll(reason: IngotError): Promise<void> {
    const running = [...this.#running.values()];
    for (const { abort } of running) abort.abort(reason);
    await Promise.all(running.map(({ end }) => end));
  }

  async #append(order: ImportOrder, body: AsyncIterable<Buffer>, part: UploadPart): Promise<void> {
    const { imageId } = order;
    if (part.offsetBytes === 'anew') await this.#parts.files.truncate(imageId, 0);
    const startByte = await this.#parts.spool.sizeOf(imageId);
    if (part.offsetBytes !== 'anew' && part.offsetBytes !== startByte) {
      throw new IngotError(
        'offset-mismatch',
        `${imageId} goes on at byte ${startByte}, not ${part.offsetBytes}`,
        { offsetBytes: startByte },
      );
    }
    const totalBytes = await this.#agreeOnSize(order, part.totalBytes);
    await this.#parts.files.checkRoom(startByte, totalBytes ?? startByte);
    try {
      const found = await this.#parts.files.append(imageId, body, {
        totalBytes,
        isHashed: (part.sha256 ?? order.sha256) !== undefined,
        isPartHashed: part.partSha256 !== undefined,
      });
      if (found !== undefined && part.partSha256 !== undefined && found !== part.partSha256) {
        await this.#parts.files.truncate(imageId, startByte);
        throw digestMismatch('the part', found, part.partSha256);
      }
    } finally {
      await this.#parts.catalogue.changeImport(imageId, { touchedAt: this.#parts.clock.now() });
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
    await this.#parts.catalogue.changeImport(order.imageId, { sizeBytes: said });
    return said;
  }
}

/** @returns the failure of an upload that is over, or never was */
export function uploadGone(imageId: Id<'img'>): IngotError {
  return new IngotError('image-not-found', `nothing is being sent for ${imageId}`, { imageId });
}
