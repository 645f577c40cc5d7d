import { type Digest, type Id, IngotError, MIB, newId } from '../../base/index.ts';
import {
  type ManifestPage,
  PageCutter,
  type RootPage,
  type Segment,
  splicedGzipBytes,
} from '../../bytes/index.ts';
import { PackWriter } from '../chunks/pack-writer.ts';
import type { IngestSummary, ManifestEntry } from '../ingest/ingest-session.ts';
import type { ImageRow, StagedPage } from './catalogue.ts';
import type { Image, ImageDescription } from './image.ts';
import type { LibrarySession } from './image-library.ts';
import type { LibraryContext } from './library-context.ts';
import { Mutex } from './mutex.ts';
import { chunksOf, layoutOf } from './page-layout.ts';

/** Digests that one `have` takes. */
const MAX_HAVE = 4096;
/** Coded bytes that one `put` takes. */
const MAX_PUT_BYTES = 16 * MIB;
/** Pages that are staged, written and synced together. */
const PAGES_AT_ONCE = 16;

/** What a session tells its library. */
export interface IngestEvents {
  onCommitted(row: ImageRow): void;
  onEnded(id: Id<'ing'>): void;
}

/** Sums of a manifest on its way in. */
interface ManifestTotals {
  readonly pages: RootPage[];
  entries: number;
  plainBytes: number;
  codedBytes: number;
}

/** An ingest into packs of the data directory. Order of writes: docs/library.md. */
export class DirectoryIngest implements LibrarySession {
  readonly id: Id<'ing'>;
  readonly accountId: Id<'acc'>;
  /** An import of this process: the same workers made what it puts. Nobody else can find it. */
  readonly wantsCompared?: true;
  readonly #context: LibraryContext;
  readonly #description: ImageDescription;
  readonly #events: IngestEvents;
  readonly #reservedId: Id<'img'> | undefined;
  #writer: PackWriter;
  /** The full pack before the open one, on its way to the disk while segments still arrive. */
  #sealing: { readonly writer: PackWriter; readonly done: Promise<void> } | undefined;
  readonly #order = new Mutex();
  #state: 'open' | 'committed' | 'ended' = 'open';
  #activeCalls = 0;
  #lastCallAt: number;
  #addedBytes = 0;

  constructor(
    context: LibraryContext,
    id: Id<'ing'>,
    accountId: Id<'acc'>,
    description: ImageDescription,
    events: IngestEvents,
    reservedId?: Id<'img'>,
  ) {
    this.id = id;
    this.accountId = accountId;
    this.#context = context;
    this.#description = description;
    this.#events = events;
    this.#reservedId = reservedId;
    if (reservedId !== undefined) this.wantsCompared = true;
    this.#writer = this.#newWriter();
    this.#lastCallAt = context.clock.monotonic();
  }

  /** Whether nobody has called for longer than the limit. */
  get isIdle(): boolean {
    const idleMs = this.#context.clock.monotonic() - this.#lastCallAt;
    return this.#activeCalls === 0 && idleMs > this.#context.limits.sessionIdleMs;
  }

  async have(digests: readonly Digest[]): Promise<boolean[]> {
    if (digests.length > MAX_HAVE) {
      throw new IngotError(
        'request-too-large',
        `one question names at most ${MAX_HAVE} chunks, not ${digests.length}`,
      );
    }
    return await this.#call(async () => {
      const granted = await this.#context.catalogue.grant(this.id, this.accountId, digests);
      return granted.map((isGranted, i) => isGranted || this.#holds(digests[i] as Digest));
    });
  }

  async put(segments: readonly Segment[]): Promise<void> {
    const bytes = segments.reduce((sum, { coded }) => sum + coded.length, 0);
    if (bytes > MAX_PUT_BYTES) {
      throw new IngotError(
        'request-too-large',
        `one delivery has at most ${MAX_PUT_BYTES} bytes, not ${bytes}`,
      );
    }
    await this.#call(async () => {
      const checked = this.#checkAll(segments);
      // Whoever comes to it sees the failure; until then it must not count as unhandled.
      checked.catch(() => undefined);
      // The place in the order is taken now, the check goes on beside the puts before.
      await this.#order.run(async () => {
        await checked;
        await this.#store(segments);
      });
    });
  }

  async commit(
    entries: AsyncIterable<readonly ManifestEntry[]>,
    summary: IngestSummary,
  ): Promise<Image> {
    return await this.#call(() =>
      this.#order.run(async () => {
        this.#mustBeOpen();
        try {
          await this.#sealOpenPack();
          await this.#sealing?.done;
          const row = await this.#commit(entries, summary);
          this.#state = 'committed';
          this.#events.onCommitted(row);
          return row;
        } finally {
          await this.#endQuietly();
        }
      }),
    );
  }

  async abort(): Promise<void> {
    await this.#order.run(() => this.#end());
  }

  async #commit(
    entries: AsyncIterable<readonly ManifestEntry[]>,
    summary: IngestSummary,
  ): Promise<ImageRow> {
    const totals = await this.#stageManifest(entries);
    if (totals.plainBytes !== summary.sizeBytes) {
      throw new IngotError(
        'manifest-invalid',
        `the extents have ${totals.plainBytes} bytes, the disk ${summary.sizeBytes}`,
      );
    }
    const row = await this.#reserve(totals, summary);
    const { manifests, catalogue, libraryId, imageGate } = this.#context;
    return await imageGate.run(async () => {
      try {
        const { capture, chunkRule, plainDigest } = summary;
        await manifests.putRoot({
          libraryId,
          imageId: row.id,
          ownerId: row.ownerId,
          createdAt: row.createdAt,
          virtualSizeBytes: row.virtualSizeBytes,
          chunkRule,
          claimedDigest: plainDigest,
          capture,
          pages: totals.pages,
        });
        await manifests.putRecord(row);
        await catalogue.commitImage(this.id, row);
        return row;
      } catch (error) {
        await this.#unmake(row.id);
        throw error;
      }
    });
  }

  async #stageManifest(entries: AsyncIterable<readonly ManifestEntry[]>): Promise<ManifestTotals> {
    const totals: ManifestTotals = { pages: [], entries: 0, plainBytes: 0, codedBytes: 0 };
    const cutter = new PageCutter();
    let waiting: ManifestPage[] = [];
    for await (const some of entries) {
      totals.entries += some.length;
      if (totals.entries > this.#context.limits.entries) {
        throw new IngotError(
          'manifest-invalid',
          `an image has at most ${this.#context.limits.entries} extents`,
        );
      }
      for (const entry of some) {
        const page = cutter.push(entry);
        if (page !== undefined) waiting.push(page);
      }
      while (waiting.length >= PAGES_AT_ONCE) {
        await this.#stagePages(waiting.splice(0, PAGES_AT_ONCE), totals);
      }
    }
    const last = cutter.end();
    if (last !== undefined) waiting.push(last);
    await this.#stagePages(waiting, totals);
    waiting = [];
    return totals;
  }

  async #stagePages(pages: readonly ManifestPage[], totals: ManifestTotals): Promise<void> {
    const { catalogue, manifests, pageGate, limits } = this.#context;
    await pageGate.run(async () => {
      const firstNumber = totals.pages.length;
      const staged: StagedPage[] = [];
      for (const page of pages) {
        const digests = chunksOf(page.entries);
        const layout = layoutOf(page.entries, await catalogue.placesFor(this.id, digests));
        const { digest, plainBytes } = page;
        const row = { digest, entries: page.entries.length, plainBytes };
        staged.push({ row: { ...row, layout }, digests });
        totals.pages.push(row);
        totals.plainBytes += plainBytes;
        totals.codedBytes += layout.codedBytes;
        if (totals.plainBytes > limits.virtualBytes) {
          throw new IngotError(
            'manifest-invalid',
            `a disk has at most ${limits.virtualBytes} bytes`,
          );
        }
      }
      // One transaction: each waits for the disk.
      await catalogue.stagePages(this.id, firstNumber, staged);
      await manifests.putPages(pages);
    });
  }

  /**
   * Finds an id that was never used, and makes it known before anything carries it; or takes the one
   * that was reserved for this ingest.
   */
  async #reserve(totals: ManifestTotals, summary: IngestSummary): Promise<ImageRow> {
    const { catalogue, clock } = this.#context;
    const reserved = this.#reservedId && (await catalogue.image(this.#reservedId));
    for (;;) {
      const row: ImageRow = {
        ...this.#description,
        id: newId('img'),
        ownerId: this.accountId,
        status: 'available',
        isPublic: false,
        isOfficial: false,
        isLocked: false,
        createdAt: clock.now(),
        virtualSizeBytes: totals.plainBytes,
        gzipSizeBytes: splicedGzipBytes(totals.codedBytes),
        addedBytes: this.#addedBytes,
        plainDigest: undefined,
        capture: summary.capture,
        chunkRule: summary.chunkRule,
        claimedDigest: summary.plainDigest,
        pageCount: totals.pages.length,
      };
      if (reserved !== undefined) return { ...row, id: reserved.id, createdAt: reserved.createdAt };
      if (await catalogue.reserveImage(row)) return row;
    }
  }

  async #unmake(imageId: Id<'img'>): Promise<void> {
    const { manifests, catalogue, log } = this.#context;
    try {
      await manifests.removeRoot(imageId);
      await manifests.removeRecord(imageId);
      await catalogue.releasePages(imageId);
      await catalogue.updateImage(imageId, { status: 'failed' });
    } catch (error) {
      // The row says `creating`: the next start removes what is left.
      log.warn('an image that was given up could not be cleaned up', {
        imageId,
        error: String(error),
      });
    }
  }

  async #checkAll(segments: readonly Segment[]): Promise<void> {
    if (this.wantsCompared === true) return;
    const problems = await this.#context.workers.check(segments);
    const first = problems.findIndex((problem) => problem !== undefined);
    if (first < 0) return;
    const digest = segments[first]?.digest ?? '';
    throw new IngotError('segment-malformed', `segment ${digest}: ${problems[first]}`, { digest });
  }

  async #store(segments: readonly Segment[]): Promise<void> {
    this.#mustBeOpen();
    const fresh = new Map<Digest, Segment>();
    for (const segment of segments) {
      if (!this.#holds(segment.digest)) fresh.set(segment.digest, segment);
    }
    const digests = [...fresh.keys()];
    const stored = await this.#context.catalogue.deliver(this.id, digests);
    try {
      for (const [i, segment] of [...fresh.values()].entries()) {
        if (stored[i]) continue;
        this.#addedBytes += segment.coded.length;
        if (this.#addedBytes > this.#context.limits.sessionBytes) {
          throw new IngotError(
            'request-too-large',
            `an ingest delivers at most ${this.#context.limits.sessionBytes} bytes`,
          );
        }
        await this.#writer.append(segment);
        if (this.#writer.isFull) await this.#sealOpenPack();
      }
      await this.#writer.flush();
    } catch (error) {
      // A pack that was written in part is worth nothing: the client starts again.
      await this.#endQuietly();
      throw error;
    }
  }

  /** Ends; what goes wrong then is told to the operator, so that it hides no earlier failure. */
  async #endQuietly(): Promise<void> {
    try {
      await this.#end();
    } catch (error) {
      this.#context.log.warn('an ingest could not be cleaned up', {
        ingest: this.id,
        error: String(error),
      });
    }
  }

  /** Begins to seal the open pack; waits for the one before it, so that at most two are open. */
  async #sealOpenPack(): Promise<void> {
    const writer = this.#writer;
    await writer.flush();
    await this.#sealing?.done;
    const done = this.#seal(writer);
    // Whoever waits for it is told; nobody may be waiting when it fails.
    done.catch(() => undefined);
    this.#sealing = { writer, done };
    this.#writer = this.#newWriter();
  }

  async #seal(writer: PackWriter): Promise<void> {
    const pack = await writer.seal();
    if (pack === undefined) return;
    const { packId, sizeBytes, entries } = pack;
    await this.#context.catalogue.addPack(this.id, { packId, sizeBytes }, entries);
    writer.forget();
  }

  #newWriter(): PackWriter {
    const { disk, limits } = this.#context;
    return new PackWriter(disk, { targetBytes: limits.packBytes });
  }

  /** Whether the chunk was delivered and is not in the catalogue yet. */
  #holds(digest: Digest): boolean {
    return this.#writer.has(digest) || this.#sealing?.writer.has(digest) === true;
  }

  async #end(): Promise<void> {
    if (this.#state === 'ended') return;
    this.#state = 'ended';
    this.#events.onEnded(this.id);
    try {
      // On a disk that fails each of these fails; the files of both packs are closed all the same.
      const ends = await Promise.allSettled([
        this.#sealing?.done.catch(() => this.#sealing?.writer.abort()),
        this.#writer.abort(),
      ]);
      for (const end of ends) if (end.status === 'rejected') throw end.reason;
    } finally {
      await this.#context.catalogue.endSession(this.id);
    }
  }

  #mustBeOpen(): void {
    if (this.#state !== 'open') {
      throw new IngotError('ingest-expired', `the ingest ${this.id} is over`, { ingest: this.id });
    }
  }

  async #call<T>(work: () => Promise<T>): Promise<T> {
    this.#mustBeOpen();
    this.#activeCalls += 1;
    using _traffic = this.#context.traffic.begin();
    try {
      return await work();
    } finally {
      this.#activeCalls -= 1;
      this.#lastCallAt = this.#context.clock.monotonic();
    }
  }
}
