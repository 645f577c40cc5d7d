import { crc32 } from 'node:zlib';
import { type Digest, MIB } from '../../base/index.ts';
import type { Segment } from '../../bytes/index.ts';
import type { SegmentCodec } from '../chunks/segment-codec.ts';
import type { IngestSession } from './ingest-session.ts';

/** Plain bytes that are asked for, coded and delivered together. */
const BATCH_BYTES = 4 * MIB;

/** What one `have` takes. */
const MAX_BATCH_CHUNKS = 4096;

/** Batches under way: one asked for, one being coded, one being delivered. */
const BATCHES_AT_ONCE = 3;

/** A chunk that the session may lack. */
export interface PlainChunk {
  readonly digest: Digest;
  /** Must not change any more. */
  readonly plain: Buffer;
}

/** Codes a chunk and sums up both of its forms. */
async function segmentOf(codec: SegmentCodec, { digest, plain }: PlainChunk): Promise<Segment> {
  const coded = await codec.encode(plain);
  return {
    digest,
    plainBytes: plain.byteLength,
    plainCrc32: crc32(plain),
    codedCrc32: crc32(coded),
    coded,
  };
}

/**
 * Delivers chunks to a session: asks which ones it lacks, codes those on all cores, puts them in the
 * order in which they came, so that an image lies in the library as it lies on the disk.
 *
 * Holds a few batches of 4 MiB; `add` waits when there are more.
 */
export class Delivery {
  readonly #session: IngestSession;
  readonly #codec: SegmentCodec;
  readonly #signal: AbortSignal;
  #batch: PlainChunk[] = [];
  /** Bytes that the batch keeps in memory, its chunks' and those read beside them. */
  #heldBytes = 0;
  readonly #underWay = new Set<Promise<void>>();
  /** Settles when the last batch so far is delivered, or failed. */
  #lastPut: Promise<void> = Promise.resolve();
  #failure: { readonly thrown: unknown } | undefined;
  #deliveredBytes = 0;

  constructor(session: IngestSession, codec: SegmentCodec, signal: AbortSignal) {
    this.#session = session;
    this.#codec = codec;
    this.#signal = signal;
  }

  /** Plain bytes that the session lacked so far. */
  get deliveredBytes(): number {
    return this.#deliveredBytes;
  }

  /** Takes a chunk. Whatever went wrong with earlier ones is thrown here, or by `flush`. */
  async add(chunk: PlainChunk): Promise<void> {
    this.#batch.push(chunk);
    if (this.#batch.length >= MAX_BATCH_CHUNKS) await this.#send();
  }

  /**
   * Tells that so many bytes were read, of which chunks in the batch may be views: a batch must not
   * keep many buffers alive for a few chunks of each.
   */
  async read(lengthBytes: number): Promise<void> {
    if (this.#batch.length === 0) return;
    this.#heldBytes += lengthBytes;
    if (this.#heldBytes >= BATCH_BYTES) await this.#send();
  }

  /** Waits until everything is delivered. */
  async flush(): Promise<void> {
    await this.#send();
    await Promise.all(this.#underWay);
    this.#throwFailure();
  }

  /** Waits until no call to the session is under way, whatever came of them. Never throws. */
  async settle(): Promise<void> {
    await Promise.all(this.#underWay);
  }

  async #send(): Promise<void> {
    this.#signal.throwIfAborted();
    while (this.#underWay.size >= BATCHES_AT_ONCE) await Promise.race(this.#underWay);
    this.#throwFailure();
    const batch = this.#batch;
    this.#batch = [];
    this.#heldBytes = 0;
    if (batch.length === 0) return;
    const before = this.#lastPut;
    const job = this.#deliver(batch, before).catch((thrown: unknown) => {
      this.#failure ??= { thrown };
    });
    this.#lastPut = job;
    this.#underWay.add(job);
    void job.then(() => this.#underWay.delete(job));
  }

  async #deliver(batch: readonly PlainChunk[], before: Promise<void>): Promise<void> {
    const known = await this.#session.have(batch.map((chunk) => chunk.digest));
    const lacking = batch.filter((_, i) => known[i] !== true);
    const segments = await Promise.all(lacking.map((chunk) => segmentOf(this.#codec, chunk)));
    await before;
    if (segments.length === 0 || this.#failure !== undefined || this.#signal.aborted) return;
    await this.#session.put(segments);
    for (const segment of segments) this.#deliveredBytes += segment.plainBytes;
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.thrown;
  }
}
