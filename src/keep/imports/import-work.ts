import { type Clock, type Id, IngotError, type Log, type OnProgress } from '../../base/index.ts';
import type { DiskFormat } from '../../bytes/index.ts';
import type { SnapshotSource } from '../../capture/index.ts';
import type { ChunkWorkers } from '../chunks/chunk-workers.ts';
import type { IngestSession } from '../ingest/ingest-session.ts';
import { ingestSnapshot } from '../ingest/ingest-snapshot.ts';
import type { OpenSpool } from '../ingest/spool.ts';
import type { Job } from '../jobs/job-catalogue.ts';
import type { JobControl } from '../jobs/job-runner.ts';
import type { Catalogue, ImageRow } from '../library/catalogue.ts';
import { type ImageDescription, isReadable } from '../library/image.ts';
import { Mutex } from '../library/mutex.ts';
import type { HandedFiles } from './handed-files.ts';
import type { ImportLimits, ImportOrder } from './import-order.ts';
import type { IncomingFiles } from './incoming-files.ts';
import { removeReceived, type UploadSpool } from './upload-spool.ts';
import { fetchFile } from './url-fetch.ts';
import type { OpenUrl } from './url-source.ts';

/** A received file that is to become a disk. */
export interface ReceivedFile {
  readonly path: string;
  /** How people know it. */
  readonly name: string;
  /** For what is made of it on the way; removed with everything in it afterwards. */
  readonly folder: string;
  /** Undefined: by its first bytes. */
  readonly format: DiskFormat | undefined;
  readonly freeSpace: 'zero' | 'keep';
  /** The disk must not be larger. */
  readonly maxDiskBytes: number;
  /** Bytes that must stay free where `folder` lies. */
  readonly keepFreeBytes: number;
  readonly signal: AbortSignal;
  readonly onProgress: OnProgress;
}

/**
 * Opens what was received as a source: unpacks it and converts it, whatever it holds. It may be
 * hostile.
 */
export type OpenReceived = (file: ReceivedFile) => Promise<SnapshotSource>;

/** What {@link ImportWork} works with. */
export interface ImportWorkParts {
  readonly catalogue: Catalogue;
  readonly clock: Clock;
  readonly log: Log;
  readonly workers: ChunkWorkers;
  readonly spool: UploadSpool;
  readonly limits: ImportLimits;
  readonly openSource: OpenReceived;
  readonly openUrl: OpenUrl;
  readonly files: IncomingFiles;
  readonly handed: HandedFiles;
  /** What an ingest puts by; not in the folders of the imports. */
  readonly openSpool: OpenSpool;
  /** Opens a session that makes an image which is `creating`. */
  readonly beginIngest: (
    accountId: Id<'acc'>,
    description: ImageDescription,
    imageId: Id<'img'>,
  ) => Promise<IngestSession>;
}

type MadeImage = Pick<ImageRow, 'virtualSizeBytes' | 'addedBytes'>;

/** Makes images of what was received; the work of the jobs `import`. */
export class ImportWork {
  readonly #parts: ImportWorkParts;
  /** Each wants all cores and 100 MB: one at a time. */
  readonly #gate = new Mutex();
  readonly #running = new Map<string, Promise<string>>();

  constructor(parts: ImportWorkParts) {
    this.#parts = parts;
  }

  async run(job: Job, control: JobControl): Promise<string> {
    const running = this.#run(job.subject, control);
    this.#running.set(job.subject, running);
    try {
      return await running;
    } finally {
      this.#running.delete(job.subject);
    }
  }

  /** Waits until nobody works on the image. */
  async ended(imageId: Id<'img'>): Promise<void> {
    await this.#running.get(imageId)?.catch(() => undefined);
  }

  async #run(imageId: string, control: JobControl): Promise<string> {
    const { catalogue, handed } = this.#parts;
    const order = await catalogue.importOrder(imageId);
    const row = await catalogue.image(imageId);
    if (order === undefined) {
      // A process that ended between the end of the order and that of its job has made it already.
      if (row !== undefined && isReadable(row.status)) return outcomeOf(imageId, row, []);
      throw new IngotError('image-not-found', `the import of ${imageId} has ended`);
    }
    if (row === undefined) throw new IngotError('image-not-found', `${imageId} is gone`);
    // A process that ended between the commit and the end of the order has made it already.
    if (row.status === 'failed') throw new IngotError('ingest-expired', 'its making broke off');
    const { image, notices } =
      row.status === 'creating'
        ? await this.#make(order, row, control)
        : { image: row, notices: [] };
    await catalogue.endImport(order.imageId, '');
    await handed.forget(order.imageId);
    await removeReceived(this.#parts, order.imageId);
    return outcomeOf(imageId, image, notices);
  }

  async #make(
    order: ImportOrder,
    row: ImageRow,
    control: JobControl,
  ): Promise<{
    readonly image: MadeImage;
    readonly notices: readonly string[];
  }> {
    const { spool, limits, openSource, openSpool, beginIngest, workers, clock } = this.#parts;
    const { imageId, accountId, format, freeSpace } = order;
    const { signal, onProgress } = control;
    if (order.url !== undefined) await this.#fetch(order, order.url, control);
    const path = await this.#pathOf(order);
    onProgress({ doneBytes: 0, totalBytes: undefined, stage: 'waiting for another import' });
    return await this.#gate.run(async () => {
      signal.throwIfAborted();
      await using source = await openSource({
        path,
        name: row.capture.source,
        folder: spool.folderOf(imageId),
        format,
        freeSpace,
        maxDiskBytes: limits.imageBytes,
        keepFreeBytes: limits.diskReserveBytes,
        signal,
        onProgress,
      });
      const image = await ingestSnapshot({
        source,
        target: { begin: (description) => beginIngest(accountId, description, imageId) },
        workers,
        description: row,
        onProgress,
        signal,
        openSpool,
        clock,
      });
      return { image, notices: source.notices() };
    });
  }

  /** Where the bytes of an image lie: those that came, or a file that was handed over. */
  async #pathOf({ imageId }: ImportOrder): Promise<string> {
    const { spool, handed } = this.#parts;
    const file = handed.fileOf(imageId);
    if (file !== undefined) return file.path;
    if ((await spool.sizeOf(imageId)) > 0) return spool.fileOf(imageId);
    throw new IngotError(
      'ingest-expired',
      'its file was handed over to a daemon that has ended since: import it again',
    );
  }

  async #fetch(order: ImportOrder, url: string, control: JobControl): Promise<void> {
    const { spool, files, clock, openUrl } = this.#parts;
    const { imageId, sha256, sizeBytes } = order;
    const file = { imageId, url, isHashed: sha256 !== undefined };
    await fetchFile({ openUrl, spool, files, clock }, file, control);
    const foundBytes = await spool.sizeOf(imageId);
    if (foundBytes === 0) throw new IngotError('source-truncated', 'what was fetched is empty');
    if (sizeBytes !== undefined && sizeBytes !== foundBytes) {
      throw new IngotError(
        'source-size-mismatch',
        `what was fetched has ${foundBytes} bytes, not ${sizeBytes}`,
      );
    }
    await files.checkDigest(imageId, sha256);
    files.forget(imageId);
  }
}

function outcomeOf(imageId: string, image: MadeImage, notices: readonly string[]): string {
  return JSON.stringify({
    image: imageId,
    virtual_size_bytes: image.virtualSizeBytes,
    added_bytes: image.addedBytes,
    notices,
  });
}
