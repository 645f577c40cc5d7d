import { crc32 } from 'node:zlib';
import { type Digest, DigestBlocks, type Id, IngotError, MIB } from '../../base/index.ts';
import { MAX_CODED_BYTES, releaseMemory } from '../../bytes/index.ts';
import type { ImageChanges, ImageRow } from './catalogue.ts';
import { DirectoryImage } from './directory-image.ts';
import type { LibraryContext } from './library-context.ts';
import type { OpenChunk, OpenEntry } from './open-image.ts';

/** Plain bytes that are read and inflated at once. */
const STEP_BYTES = 2 * MIB;
/** Room for a step that does not compress. */
const MEMORY_BYTES = STEP_BYTES + 2 * MAX_CODED_BYTES;
/** Between two steps while somebody downloads. */
const PAUSE_MS = 100;

/** Some entries, and the plain bytes of the chunks among them. */
interface PlainStep {
  readonly entries: readonly OpenEntry[];
  readonly plain: readonly Buffer[];
}

/** Who asks for a digest. */
interface DigestWish {
  readonly signal?: AbortSignal | undefined;
  readonly mayWait?: boolean;
}

/** A digest that is being computed. */
interface DigestWork {
  mayWait: boolean;
  digest: Promise<Digest>;
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
   * @param options `signal` ends the waiting, not the work that others may wait for too; `mayWait`
   *   makes the work slow while somebody downloads, until somebody asks who may not wait
   * @throws IngotError as `AccountLibrary.plainDigest`
   */
  async of(imageId: Id<'img'>, { signal, mayWait = false }: DigestWish = {}): Promise<Digest> {
    let work = this.#running.get(imageId);
    if (work === undefined) {
      const begun: DigestWork = { mayWait, digest: Promise.resolve('' as Digest) };
      begun.digest = this.#compute(imageId, begun).finally(() => this.#running.delete(imageId));
      this.#running.set(imageId, begun);
      work = begun;
    }
    if (!mayWait) work.mayWait = false;
    const running = work.digest;
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
    await Promise.allSettled([...this.#running.values()].map((work) => work.digest));
  }

  async #compute(imageId: Id<'img'>, work: DigestWork): Promise<Digest> {
    const { catalogue, leases, log } = this.#context;
    const release = leases.take(imageId);
    try {
      const row = await catalogue.image(imageId);
      if (row === undefined || (row.status !== 'available' && row.status !== 'deprecated')) {
        throw new IngotError('image-not-found', `there is no image ${imageId}`, { imageId });
      }
      if (row.plainDigest !== undefined) return row.plainDigest;
      await using image = await DirectoryImage.open(this.#context, row, release, true);
      const digest = await this.#read(image, work);
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

  async #read(image: DirectoryImage, work: DigestWork): Promise<Digest> {
    await using stream = this.#context.openDigestStream();
    const blocks = new DigestBlocks(stream);
    const memory = [Buffer.allocUnsafeSlow(MEMORY_BYTES), Buffer.allocUnsafeSlow(MEMORY_BYTES)];
    // The next step is read and inflated on other threads while this one is hashed.
    let ahead: Promise<PlainStep> | undefined;
    let steps = 0;
    for (let index = 0; index < image.pages.length; index++) {
      for (const step of stepsOf(await image.page(index))) {
        await this.#makeWay(work);
        const next = this.#inflate(image, step, memory[steps++ % memory.length]);
        next.catch(() => undefined);
        if (ahead !== undefined) await this.#hash(blocks, await ahead);
        ahead = next;
      }
    }
    if (ahead !== undefined) await this.#hash(blocks, await ahead);
    await blocks.end();
    return await stream.digest();
  }

  /** A step now and then is enough while somebody downloads: the disk and the cores are his. */
  async #makeWay(work: DigestWork): Promise<void> {
    this.#end.signal.throwIfAborted();
    if (!work.mayWait || !this.#context.activity.isRecent) return;
    await this.#context.clock.sleep(PAUSE_MS, this.#end.signal);
  }

  async #hash(blocks: DigestBlocks, { entries, plain }: PlainStep): Promise<void> {
    let next = 0;
    for (const entry of entries) {
      if (entry.kind === 'hole') {
        await blocks.zeros(entry.lengthBytes, this.#end.signal);
        continue;
      }
      const bytes = plain[next++] as Buffer;
      await blocks.add(bytes);
      releaseMemory(bytes);
    }
  }

  async #inflate(
    image: DirectoryImage,
    entries: readonly OpenEntry[],
    memory: Buffer | undefined,
  ): Promise<PlainStep> {
    const chunks = entries.filter((entry): entry is OpenChunk => entry.kind === 'chunk');
    const coded = await image.readCoded(chunks, this.#end.signal, memory);
    const plain = await Promise.all(
      chunks.map(async (chunk, i) => {
        const plain = await this.#context.codec.decode(coded[i] as Buffer, chunk.lengthBytes);
        if (crc32(plain) === chunk.plainCrc32) return plain;
        throw new IngotError('chunk-corrupt', `the chunk ${chunk.digest} inflates to other bytes`, {
          digest: chunk.digest,
        });
      }),
    );
    return { entries, plain };
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
