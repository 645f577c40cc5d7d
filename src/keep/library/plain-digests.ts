import { createHash, type Hash } from 'node:crypto';
import { type Digest, digestOf, type Id, IngotError, MIB } from '../../base/index.ts';
import type { ImageChanges, ImageRow } from './catalogue.ts';
import { DirectoryImage } from './directory-image.ts';
import type { LibraryContext } from './library-context.ts';
import type { OpenChunk, OpenEntry } from './open-image.ts';

const ZEROS = Buffer.alloc(MIB);
/** Plain bytes that are read and inflated at once. */
const STEP_BYTES = 4 * MIB;

/** Some entries, and the plain bytes of the chunks among them. */
interface PlainStep {
  readonly entries: readonly OpenEntry[];
  readonly plain: readonly Buffer[];
}

/** Computes digests of whole disks by reading them back; each image once, whoever asks. */
export class PlainDigests implements AsyncDisposable {
  readonly #context: LibraryContext;
  readonly #change: (row: ImageRow, changes: ImageChanges) => Promise<ImageRow>;
  readonly #running = new Map<Id<'img'>, Promise<Digest>>();
  readonly #end = new AbortController();

  constructor(
    context: LibraryContext,
    change: (row: ImageRow, changes: ImageChanges) => Promise<ImageRow>,
  ) {
    this.#context = context;
    this.#change = change;
  }

  /**
   * @param signal ends the waiting, not the work that others may wait for too
   * @throws IngotError as `AccountLibrary.plainDigest`
   */
  async of(imageId: Id<'img'>, signal?: AbortSignal): Promise<Digest> {
    let running = this.#running.get(imageId);
    if (running === undefined) {
      running = this.#compute(imageId).finally(() => this.#running.delete(imageId));
      this.#running.set(imageId, running);
    }
    if (signal === undefined) return await running;
    signal.throwIfAborted();
    const aborted = Promise.withResolvers<never>();
    const onAbort = (): void => aborted.reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      return await Promise.race([running, aborted.promise]);
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.abort(new IngotError('library-busy', 'the library is being closed'));
    await Promise.allSettled([...this.#running.values()]);
  }

  async #compute(imageId: Id<'img'>): Promise<Digest> {
    const { catalogue, leases, log } = this.#context;
    const release = leases.take(imageId);
    try {
      const row = await catalogue.image(imageId);
      if (row === undefined || (row.status !== 'available' && row.status !== 'deprecated')) {
        throw new IngotError('image-not-found', `there is no image ${imageId}`, { imageId });
      }
      if (row.plainDigest !== undefined) return row.plainDigest;
      await using image = await DirectoryImage.open(this.#context, row, release);
      const digest = await this.#read(image);
      if (row.claimedDigest !== undefined && row.claimedDigest !== digest) {
        log.error('a disk is not what its capture said', { imageId, digest });
        await this.#change(row, {
          status: 'failed',
          failure: 'the disk is not the one that the capture claimed',
        });
        throw new IngotError(
          'verify-failed',
          `the disk of ${imageId} has the digest ${digest}; its capture said ${row.claimedDigest}`,
          { imageId },
        );
      }
      await this.#change(row, { plainDigest: digest });
      return digest;
    } finally {
      release();
    }
  }

  async #read(image: DirectoryImage): Promise<Digest> {
    const sum = createHash('sha256');
    // The next step is read and inflated on other threads while this one is hashed.
    let ahead: Promise<PlainStep> | undefined;
    for (let index = 0; index < image.pages.length; index++) {
      for (const step of stepsOf(await image.page(index))) {
        const next = this.#inflate(image, step);
        next.catch(() => undefined);
        if (ahead !== undefined) await this.#hash(sum, await ahead);
        ahead = next;
      }
    }
    if (ahead !== undefined) await this.#hash(sum, await ahead);
    return sum.digest('hex') as Digest;
  }

  async #hash(sum: Hash, { entries, plain }: PlainStep): Promise<void> {
    this.#end.signal.throwIfAborted();
    let next = 0;
    for (const entry of entries) {
      if (entry.kind === 'chunk') sum.update(plain[next++] as Buffer);
      else await this.#addZeros(sum, entry.lengthBytes);
    }
  }

  async #inflate(image: DirectoryImage, entries: readonly OpenEntry[]): Promise<PlainStep> {
    const chunks = entries.filter((entry): entry is OpenChunk => entry.kind === 'chunk');
    const coded = await image.readCoded(chunks, this.#end.signal);
    const plain = await Promise.all(
      chunks.map(async (chunk, i) => {
        const plain = await this.#context.codec.decode(coded[i] as Buffer, chunk.lengthBytes);
        if (digestOf(plain) === chunk.digest) return plain;
        throw new IngotError('chunk-corrupt', `the chunk ${chunk.digest} inflates to other bytes`, {
          digest: chunk.digest,
        });
      }),
    );
    return { entries, plain };
  }

  async #addZeros(sum: Hash, lengthBytes: number): Promise<void> {
    for (let left = lengthBytes, piece = 1; left > 0; left -= ZEROS.length, piece++) {
      sum.update(left < ZEROS.length ? ZEROS.subarray(0, left) : ZEROS);
      // A hole of a TiB must not keep everybody else from this thread.
      if (piece % 16 === 0) {
        await new Promise((resolve) => setImmediate(resolve));
        this.#end.signal.throwIfAborted();
      }
    }
  }
}

/** Splits entries so that the chunks of one step stay small in memory. */
function* stepsOf(entries: readonly OpenEntry[]): Generator<OpenEntry[], void, undefined> {
  let step: OpenEntry[] = [];
  let bytes = 0;
  for (const entry of entries) {
    step.push(entry);
    if (entry.kind === 'chunk') bytes += entry.lengthBytes;
    if (bytes >= STEP_BYTES) {
      yield step;
      step = [];
      bytes = 0;
    }
  }
  if (step.length > 0) yield step;
}
