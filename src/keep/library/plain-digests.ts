import {
  type Digest,
  DigestBlocks,
  type Id,
  IngotError,
  type OnProgress,
} from '../../base/index.ts';
import { releaseMemory } from '../../bytes/index.ts';
import type { ImageChanges, ImageRow } from './catalogue.ts';
import { DirectoryImage } from './directory-image.ts';
import type { LibraryContext } from './library-context.ts';
import { type PlainStep, readPlainStep, STEP_MEMORY_BYTES, stepsOf } from './plain-steps.ts';
import { unlessAborted } from './unless-aborted.ts';

/** Between two steps while others read and deliver. */
const PAUSE_MS = 1000;

/** Who asks for a digest. */
interface DigestWish {
  readonly signal?: AbortSignal | undefined;
  readonly mayWait?: boolean;
  readonly onProgress?: OnProgress;
}

/** A digest that is being computed. */
interface DigestWork {
  /** Aborted as soon as somebody waits for it. */
  readonly hurry: AbortController;
  readonly listeners: OnProgress[];
  digest: Promise<Digest>;
  doneBytes: number;
  totalBytes: number | undefined;
}

/** Computes digests of whole disks by reading them back; each image once, whoever asks. */
export class PlainDigests implements AsyncDisposable {
  readonly #context: LibraryContext;
  readonly #change: (row: ImageRow, changes: ImageChanges) => Promise<ImageRow>;
  readonly #running = new Map<Id<'img'>, DigestWork>();
  readonly #end = new AbortController();

  constructor(
    context: LibraryContext,
    change: (row: ImageRow, changes: ImageChanges) => Promise<ImageRow>,
  ) {
    this.#context = context;
    this.#change = change;
  }

  /**
   * @param wish `signal` ends the waiting, not the work that others may wait for too; `mayWait`
   *   makes the work slow while others read and deliver, until somebody asks who may not wait
   * @throws IngotError as `AccountLibrary.plainDigest`
   */
  async of(
    imageId: Id<'img'>,
    { signal, mayWait = false, onProgress }: DigestWish = {},
  ): Promise<Digest> {
    const work = this.#running.get(imageId) ?? this.#begin(imageId);
    if (!mayWait) work.hurry.abort();
    if (onProgress !== undefined) work.listeners.push(onProgress);
    return signal === undefined ? await work.digest : await unlessAborted(work.digest, signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.abort(new IngotError('library-busy', 'the library is being closed'));
    await Promise.allSettled([...this.#running.values()].map((work) => work.digest));
  }

  #begin(imageId: Id<'img'>): DigestWork {
    const work: DigestWork = {
      hurry: new AbortController(),
      listeners: [],
      digest: Promise.resolve('' as Digest),
      doneBytes: 0,
      totalBytes: undefined,
    };
    work.digest = this.#compute(imageId, work).finally(() => this.#running.delete(imageId));
    this.#running.set(imageId, work);
    return work;
  }

  async #compute(imageId: Id<'img'>, work: DigestWork): Promise<Digest> {
    const { catalogue, leases, log } = this.#context;
    const release = leases.take(imageId);
    try {
      const row = await catalogue.image(imageId);
      // Work that was killed behind its verdict finds it; the words must still be the true ones.
      if (row?.status === 'failed' && row.claimedDigest !== undefined) throw notAsClaimed(row);
      if (row === undefined || (row.status !== 'available' && row.status !== 'deprecated')) {
        throw new IngotError('image-not-found', `there is no image ${imageId}`, { imageId });
      }
      if (row.plainDigest !== undefined) return row.plainDigest;
      await using image = await DirectoryImage.open(this.#context, row, release, true);
      work.totalBytes = row.virtualSizeBytes;
      const digest = await this.#read(image, work);
      if (row.claimedDigest !== undefined && row.claimedDigest !== digest) {
        log.error('a disk is not what its capture said', { imageId, digest });
        await this.#change(row, {
          status: 'failed',
          failure: 'the disk is not the one that the capture claimed',
        });
        throw notAsClaimed(row, digest);
      }
      await this.#change(row, { plainDigest: digest });
      return digest;
    } finally {
      release();
    }
  }

  async #read(image: DirectoryImage, work: DigestWork): Promise<Digest> {
    const { openDigestStream, codec } = this.#context;
    await using stream = openDigestStream();
    const blocks = new DigestBlocks(stream);
    const memory = [0, 1].map(() => Buffer.allocUnsafeSlow(STEP_MEMORY_BYTES));
    // The next step is read and inflated on other threads while this one is hashed.
    let ahead: Promise<PlainStep> | undefined;
    let steps = 0;
    for (let index = 0; index < image.pages.length; index++) {
      for (const step of stepsOf(await image.page(index))) {
        await this.#makeWay(work);
        const parts = { codec, memory: memory[steps++ % memory.length] as Buffer };
        const next = readPlainStep(image, step, parts, this.#end.signal);
        next.catch(() => undefined);
        if (ahead !== undefined) await this.#hash(blocks, await ahead, work);
        ahead = next;
      }
    }
    if (ahead !== undefined) await this.#hash(blocks, await ahead, work);
    await blocks.end();
    return await stream.digest();
  }

  /** A step now and then is enough while others work: the disk and the cores are theirs. */
  async #makeWay({ hurry }: DigestWork): Promise<void> {
    this.#end.signal.throwIfAborted();
    const { traffic, clock } = this.#context;
    if (hurry.signal.aborted || traffic.isQuiet) return;
    try {
      await clock.sleep(PAUSE_MS, AbortSignal.any([this.#end.signal, hurry.signal]));
    } catch (thrown) {
      if (!hurry.signal.aborted) throw thrown;
    }
    this.#end.signal.throwIfAborted();
  }

  async #hash(
    blocks: DigestBlocks,
    { entries, plain }: PlainStep,
    work: DigestWork,
  ): Promise<void> {
    let next = 0;
    for (const entry of entries) {
      work.doneBytes += entry.lengthBytes;
      if (entry.kind === 'hole') {
        await blocks.zeros(entry.lengthBytes, this.#end.signal);
        continue;
      }
      const bytes = plain[next++] as Buffer;
      await blocks.add(bytes);
      releaseMemory(bytes);
    }
    const { doneBytes, totalBytes } = work;
    for (const tell of work.listeners) tell({ doneBytes, totalBytes, stage: 'reading the disk' });
  }
}

/** @param digest what the disk has, where it is known */
function notAsClaimed({ id: imageId, claimedDigest }: ImageRow, digest?: Digest): IngotError {
  const found = digest === undefined ? 'another digest' : `the digest ${digest}`;
  return new IngotError(
    'verify-failed',
    `the disk of ${imageId} has ${found}; its capture said ${claimedDigest}`,
    { imageId },
  );
}
