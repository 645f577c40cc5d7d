import {
  type Digest,
  type Id,
  type IngotError,
  isFailure,
  noProgress,
  type OnProgress,
} from '../../base/index.ts';
import { type PackIndex, readPackIndex } from '../chunks/pack-reader.ts';
import type { ChunkPlace, ImageRow, PackRow } from './catalogue.ts';
import { isReadable } from './image.ts';
import type { LibraryContext } from './library-context.ts';
import { chunksOf } from './page-layout.ts';
import { readPackChunks } from './read-pack-chunks.ts';

/** What a verify found. Lists are cut at {@link MOST_NAMED}. */
export interface VerifyReport {
  readonly isClean: boolean;
  readonly checkedChunks: number;
  readonly checkedBytes: number;
  /** Chunks whose stored bytes are wrong or gone: they are quarantined now. */
  readonly corruptChunks: readonly Digest[];
  /** Packs that are missing or whose index is damaged. */
  readonly corruptPacks: readonly string[];
  /** Manifest pages, roots and records that are damaged, as short sentences. */
  readonly damage: readonly string[];
  /** Images that cannot be read back whole. */
  readonly damagedImages: readonly Id<'img'>[];
}

/** How to verify. */
export interface VerifyOptions {
  /** Only this image; the whole library otherwise. */
  readonly imageId?: Id<'img'>;
  readonly signal?: AbortSignal;
  readonly onProgress?: OnProgress;
  /** The checkpoint of an earlier run that did not end. */
  readonly checkpoint?: string;
  readonly keep?: (checkpoint: string) => Promise<void>;
}

/** How many names a list of a report has at most. */
const MOST_NAMED = 1000;
const STEP = 100;
type Phase = 'packs' | 'pages' | 'images';

/** Reads the library, or one image, back and compares every byte with its digest. */
export async function verifyLibrary(
  context: LibraryContext,
  options: VerifyOptions = {},
): Promise<VerifyReport> {
  const run = new VerifyRun(context, options);
  return options.imageId === undefined ? await run.all() : await run.one(options.imageId);
}

interface Findings {
  checkedChunks: number;
  checkedBytes: number;
  corruptChunks: Digest[];
  corruptPacks: string[];
  damage: string[];
  damagedImages: Id<'img'>[];
}

class VerifyRun {
  readonly #context: LibraryContext;
  readonly #options: VerifyOptions;
  readonly #found: Findings;
  readonly #start: { readonly phase: Phase; readonly after: string };
  #totalBytes: number | undefined;

  constructor(context: LibraryContext, options: VerifyOptions) {
    this.#context = context;
    this.#options = options;
    const { phase, after, found } = parseCheckpoint(options.checkpoint);
    this.#start = { phase, after };
    this.#found = found;
  }

  async all(): Promise<VerifyReport> {
    const { catalogue } = this.#context;
    const counts = await catalogue.counts();
    this.#totalBytes = counts.liveBytes;
    const { phase, after } = this.#start;
    if (phase === 'packs') await this.#packs(after);
    if (phase !== 'images') await this.#pages(phase === 'pages' ? after : '');
    await this.#images(phase === 'images' ? after : '');
    return this.#report();
  }

  async one(imageId: Id<'img'>): Promise<VerifyReport> {
    await this.#leased(imageId, true);
    return this.#report();
  }

  /** Looks at an image that nobody can take away meanwhile; one that is gone by now is no damage. */
  async #leased(imageId: Id<'img'>, isDeep: boolean): Promise<void> {
    const release = this.#context.leases.take(imageId);
    try {
      const row = await this.#context.catalogue.image(imageId);
      if (row !== undefined && isReadable(row.status)) await this.#image(row, isDeep);
    } finally {
      release();
    }
  }

  async #packs(after: string): Promise<void> {
    for (let last = after; ; ) {
      const packs = await this.#context.catalogue.packs(last, STEP);
      for (const pack of packs) {
        this.#options.signal?.throwIfAborted();
        await this.#pack(pack);
        await this.#keep('packs', pack.packId);
      }
      const end = packs.at(-1);
      if (end === undefined) return;
      last = end.packId;
    }
  }

  async #pack(pack: PackRow): Promise<void> {
    const { catalogue, disk } = this.#context;
    const all = await catalogue.chunksOfPack(pack.packId);
    const places = all.filter((place) => place.state !== 'condemned');
    // What nothing refers to may be as it is; collection removes it.
    if (places.length === 0) return;
    try {
      const index = await readPackIndex(disk, pack.packId);
      const problem = index === undefined ? 'is missing' : differenceOf(index, pack, places);
      if (problem !== undefined) await this.#corruptPack(places, problem);
    } catch (error) {
      if (!isFailure(error)) throw error;
      await this.#corruptPack(places, error.message);
    }
    await this.#chunks(places);
  }

  async #chunks(places: readonly ChunkPlace[]): Promise<void> {
    for await (const some of readPackChunks(this.#context, places)) {
      this.#options.signal?.throwIfAborted();
      const healthy = some.filter(
        ({ coded, place }) => coded !== undefined && isQuarantined(place),
      );
      if (healthy.length > 0) {
        await this.#context.catalogue.endQuarantine(healthy.map(({ place }) => place));
      }
      const bad = await this.#stillThere(
        some.filter(({ coded }) => coded === undefined).map(({ place }) => place),
      );
      if (bad.length > 0) await this.#context.catalogue.quarantine(bad);
      for (const place of bad) this.#corruptChunk(place);
      this.#found.checkedChunks += some.length;
      for (const { place } of some) this.#found.checkedBytes += place.codedBytes;
      this.#tell();
    }
  }

  /** @returns those that the catalogue still has there: others were moved or collected meanwhile */
  async #stillThere(places: readonly ChunkPlace[]): Promise<ChunkPlace[]> {
    const now = await this.#context.catalogue.locate(places.map(({ digest }) => digest));
    return places.filter(
      ({ packId }, i) => now[i]?.packId === packId && now[i]?.state !== 'condemned',
    );
  }

  async #pages(after: string): Promise<void> {
    for (let last = after; ; ) {
      const pages = await this.#context.catalogue.pages(last, STEP);
      for (const { digest } of pages) {
        this.#options.signal?.throwIfAborted();
        await this.#try(() => this.#page(digest));
      }
      const end = pages.at(-1);
      if (end === undefined) return;
      last = end.digest;
      await this.#keep('pages', last);
    }
  }

  /** Looks at a page; one that was collected meanwhile is no damage. */
  async #page(digest: Digest): Promise<void> {
    const { catalogue, manifests, pageGate } = this.#context;
    try {
      await manifests.page(digest);
    } catch (error) {
      if (!isDamage(error)) throw error;
      // An ingest may put it back by now: then its row is there before its file is.
      await pageGate.run(async () => {
        const isGone = (await catalogue.unknownPages([digest])).length > 0;
        if (!isGone) await manifests.page(digest);
      });
    }
  }

  async #images(after: string): Promise<void> {
    const { catalogue } = this.#context;
    for (let last = after; ; ) {
      const statuses = ['available', 'deprecated'] as const;
      const rows = await catalogue.images({
        accountId: undefined,
        statuses,
        afterId: last,
        limit: STEP,
      });
      for (const row of rows) {
        this.#options.signal?.throwIfAborted();
        await this.#leased(row.id, false);
      }
      const end = rows.at(-1);
      if (end === undefined) return;
      last = end.id;
      await this.#keep('images', last);
    }
  }

  /** @param isDeep whether its chunks are read back too; the packs have been, otherwise */
  async #image(row: ImageRow, isDeep: boolean): Promise<void> {
    const { catalogue, manifests } = this.#context;
    const isWhole = await this.#try(async () => {
      const root = await manifests.root(row.id);
      const record = await manifests.record(row.id);
      const pages = await catalogue.imagePages(row.id);
      const isSame =
        pages.length === root.pages.length &&
        pages.every(({ digest }, i) => digest === root.pages[i]?.digest) &&
        root.virtualSizeBytes === row.virtualSizeBytes &&
        root.ownerId === row.ownerId;
      if (!isSame) this.#damage(`the catalogue and the manifest of ${row.id} differ`);
      if (record === undefined) this.#damage(`the record of ${row.id} is missing`);
      for (const page of root.pages) {
        this.#options.signal?.throwIfAborted();
        await this.#imagePage(row.id, page.digest, isDeep);
      }
      return isSame && record !== undefined;
    });
    if (isWhole !== true) this.#damagedImage(row.id);
  }

  async #imagePage(imageId: Id<'img'>, digest: Digest, isDeep: boolean): Promise<void> {
    const { catalogue, manifests } = this.#context;
    const chunks = chunksOf((await manifests.page(digest)).entries);
    const places = await catalogue.locate(chunks);
    for (const [i, place] of places.entries()) {
      if (place === undefined) this.#damage(`no pack has the chunk ${chunks[i]} of ${imageId}`);
      // A deep look reads the chunk itself.
      const isBad = place === undefined || (!isDeep && isQuarantined(place));
      if (isBad) this.#damagedImage(imageId);
    }
    if (!isDeep) return;
    const before = this.#found.corruptChunks.length;
    const sorted = places
      .filter((place) => place !== undefined)
      .sort((a, b) =>
        a.packId === b.packId ? a.offsetBytes - b.offsetBytes : a.packId < b.packId ? -1 : 1,
      );
    for (let start = 0; start < sorted.length; ) {
      let end = start;
      while (sorted[end]?.packId === sorted[start]?.packId) end += 1;
      await this.#chunks(sorted.slice(start, end));
      start = end;
    }
    if (this.#found.corruptChunks.length > before) this.#damagedImage(imageId);
  }

  async #try<T>(work: () => Promise<T>): Promise<T | undefined> {
    try {
      return await work();
    } catch (error) {
      if (!isDamage(error)) throw error;
      this.#damage(error.message);
      return undefined;
    }
  }

  async #corruptPack(places: readonly ChunkPlace[], problem: string): Promise<void> {
    const [first] = await this.#stillThere(places);
    if (first === undefined) return;
    const { packId } = first;
    this.#context.log.error('a pack is damaged', { pack: packId, problem });
    if (this.#found.corruptPacks.length < MOST_NAMED) this.#found.corruptPacks.push(packId);
  }

  #corruptChunk({ digest, packId }: ChunkPlace): void {
    this.#context.log.error('a chunk is corrupt', { digest, pack: packId });
    if (this.#found.corruptChunks.length < MOST_NAMED) this.#found.corruptChunks.push(digest);
  }

  #damage(what: string): void {
    this.#context.log.error('a manifest is damaged', { what });
    if (this.#found.damage.length < MOST_NAMED) this.#found.damage.push(what);
  }

  #damagedImage(imageId: Id<'img'>): void {
    const images = this.#found.damagedImages;
    if (images.at(-1) !== imageId && images.length < MOST_NAMED) images.push(imageId);
  }

  #tell(): void {
    const onProgress = this.#options.onProgress ?? noProgress;
    onProgress({
      doneBytes: this.#found.checkedBytes,
      totalBytes: this.#totalBytes,
      stage: 'reading chunks back',
    });
  }

  async #keep(phase: Phase, after: string): Promise<void> {
    await this.#options.keep?.(JSON.stringify({ phase, after, found: this.#found }));
  }

  #report(): VerifyReport {
    const { corruptChunks, corruptPacks, damage, damagedImages } = this.#found;
    const lists = [corruptChunks, corruptPacks, damage, damagedImages];
    return { isClean: lists.every((list) => list.length === 0), ...this.#found };
  }
}

/** @returns how a pack differs from what the catalogue knows of it, or undefined */
function differenceOf(
  index: PackIndex,
  pack: PackRow,
  places: readonly ChunkPlace[],
): string | undefined {
  if (index.sizeBytes !== pack.sizeBytes)
    return `has ${index.sizeBytes} of ${pack.sizeBytes} bytes`;
  const entries = new Map(index.entries.map((entry) => [entry.digest, entry]));
  const strange = places.find((place) => {
    const entry = entries.get(place.digest);
    return (
      entry === undefined ||
      entry.offsetBytes !== place.offsetBytes ||
      entry.codedBytes !== place.codedBytes ||
      entry.plainBytes !== place.plainBytes ||
      entry.plainCrc32 !== place.plainCrc32 ||
      entry.codedCrc32 !== place.codedCrc32
    );
  });
  return strange === undefined
    ? undefined
    : `does not list the chunk ${strange.digest} as the catalogue does`;
}

/** Whether a manifest is not what it should be. */
function isDamage(error: unknown): error is IngotError {
  return isFailure(error, 'manifest-invalid') || isFailure(error, 'version-unknown');
}

/** A disk or memory that failed once may have made a good chunk look bad. */
function isQuarantined({ state }: ChunkPlace): boolean {
  return state === 'quarantined';
}

function parseCheckpoint(text: string | undefined): {
  phase: Phase;
  after: string;
  found: Findings;
} {
  if (text !== undefined && text !== '') return JSON.parse(text);
  return {
    phase: 'packs',
    after: '',
    found: {
      checkedChunks: 0,
      checkedBytes: 0,
      corruptChunks: [],
      corruptPacks: [],
      damage: [],
      damagedImages: [],
    },
  };
}
