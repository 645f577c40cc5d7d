import { createHash } from 'node:crypto';
import { type Digest, IngotError, KIB, MIB } from '../../base/index.ts';
import type { ManifestPage } from '../../bytes/index.ts';
import type { ChunkPlace, ImageRow, PageLayout, PageRow } from './catalogue.ts';
import type { LibraryContext } from './library-context.ts';
import type { OpenChunk, OpenEntry, OpenImage, OpenPage } from './open-image.ts';
import { chunksOf, layoutOf } from './page-layout.ts';

/** One read spans at most this much. */
const MAX_READ_BYTES = 4 * MIB;
/** Bytes between two wanted segments that are cheaper to read than to seek over. */
const MAX_GAP_BYTES = 64 * KIB;
/** Pages that stay parsed: a download reads each twice, once for its place and once for its bytes. */
const KEPT_PAGES = 4;
/** The name of no pack: what lies there is looked up anew when it is read. */
const NO_PACK = '';

/** An image of the library, held open for reading. */
export class DirectoryImage implements OpenImage {
  readonly image: ImageRow;
  readonly codedTag: string;
  readonly pages: readonly OpenPage[];
  readonly #context: LibraryContext;
  readonly #rows: readonly (PageRow & { readonly layout: PageLayout })[];
  readonly #kept = new Map<number, Promise<readonly OpenEntry[]>>();
  readonly #release: () => void;
  readonly #isUpkeep: boolean;

  private constructor(
    context: LibraryContext,
    image: ImageRow,
    rows: readonly (PageRow & { readonly layout: PageLayout })[],
    { release, isUpkeep }: { readonly release: () => void; readonly isUpkeep: boolean },
  ) {
    this.#context = context;
    this.#rows = rows;
    this.#release = release;
    this.#isUpkeep = isUpkeep;
    this.image = image;
    const tag = createHash('sha256');
    let plainStartBytes = 0;
    this.pages = rows.map(({ plainBytes, layout }) => {
      const page = { plainStartBytes, plainBytes, ...layoutNumbers(layout) };
      plainStartBytes += plainBytes;
      tag.update(layout.codedTag, 'hex');
      return page;
    });
    this.codedTag = tag.digest('hex');
  }

  /**
   * @param release ends the lease that the caller took before it looked at the image
   * @param isUpkeep whether the library itself reads: upkeep makes way for who downloads
   * @throws IngotError `manifest-invalid`, `chunk-missing`
   */
  static async open(
    context: LibraryContext,
    image: ImageRow,
    release: () => void,
    isUpkeep = false,
  ): Promise<DirectoryImage> {
    const rows = await context.catalogue.imagePages(image.id);
    const sumBytes = rows.reduce((sum, row) => sum + row.plainBytes, 0);
    if (rows.length !== image.pageCount || sumBytes !== image.virtualSizeBytes) {
      throw new IngotError(
        'manifest-invalid',
        `the index has ${rows.length} of ${image.pageCount} pages of ${image.id}`,
        { imageId: image.id },
      );
    }
    const measured: (PageRow & { readonly layout: PageLayout })[] = [];
    for (const row of rows) {
      measured.push({ ...row, layout: row.layout ?? (await measurePage(context, row.digest)) });
    }
    return new DirectoryImage(context, image, measured, { release, isUpkeep });
  }

  async page(index: number): Promise<readonly OpenEntry[]> {
    const known = this.#kept.get(index);
    if (known !== undefined) return await known;
    const reading = this.#readPage(index);
    this.#kept.set(index, reading);
    for (const old of this.#kept.keys()) {
      if (this.#kept.size <= KEPT_PAGES) break;
      this.#kept.delete(old);
    }
    try {
      return await reading;
    } catch (error) {
      this.#kept.delete(index);
      throw error;
    }
  }

  async readCoded(
    chunks: readonly OpenChunk[],
    signal?: AbortSignal,
    memory?: Buffer,
  ): Promise<Buffer[]> {
    if (!this.#isUpkeep) this.#context.traffic.touch();
    const result: Buffer[] = new Array(chunks.length);
    let free = memory;
    for (const run of runsOf(chunks)) {
      signal?.throwIfAborted();
      const lengthBytes = run.endBytes - run.startBytes;
      const fits = free !== undefined && free.length >= lengthBytes;
      await this.#readRun(run, chunks, result, fits ? free : undefined);
      if (fits) free = free?.subarray(lengthBytes);
    }
    return result;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#kept.clear();
    this.#release();
  }

  async #readPage(index: number): Promise<readonly OpenEntry[]> {
    const row = this.#rows[index];
    if (row === undefined) throw new RangeError(`${this.image.id} has no page ${index}`);
    const page = await this.#context.manifests.page(row.digest);
    const places = await locateAll(this.#context, page);
    // Healing may have coded a chunk anew since the image was opened; its length would not fit.
    if (layoutOf(page.entries, places).codedTag !== row.layout.codedTag) {
      await measurePage(this.#context, row.digest);
      throw new IngotError('content-changed', `a chunk of ${this.image.id} was healed meanwhile`, {
        imageId: this.image.id,
      });
    }
    let next = 0;
    return page.entries.map((entry) => {
      if (entry.kind === 'hole') return { kind: 'hole', lengthBytes: entry.lengthBytes };
      return openChunk(places[next++] as ChunkPlace);
    });
  }

  async #readRun(
    run: Run,
    chunks: readonly OpenChunk[],
    result: Buffer[],
    memory: Buffer | undefined,
  ): Promise<void> {
    const bytes = await this.#context.packFiles.read(
      run.packId,
      run.startBytes,
      run.endBytes - run.startBytes,
      memory,
    );
    for (const index of run.members) {
      const chunk = chunks[index] as OpenChunk;
      const start = chunk.location.offsetBytes - run.startBytes;
      const coded = bytes?.subarray(start, start + chunk.codedBytes);
      result[index] = this.#isWhole(coded, chunk) ? coded : await this.#readMoved(chunk);
    }
  }

  /** The pack is gone or the bytes are wrong: collection may have moved the chunk meanwhile. */
  async #readMoved(chunk: OpenChunk): Promise<Buffer> {
    const { catalogue, codec, packFiles, log } = this.#context;
    for (let [place] = await catalogue.locate([chunk.digest]); place !== undefined; ) {
      if (place.state === 'quarantined') throw this.#corrupt(place);
      const coded = await packFiles.read(place.packId, place.offsetBytes, place.codedBytes);
      if (this.#isWhole(coded, chunk)) return coded;
      if (coded !== undefined && codec.crc32(coded) === place.codedCrc32) {
        throw new IngotError('content-changed', `the chunk ${chunk.digest} was healed meanwhile`, {
          digest: chunk.digest,
        });
      }
      const [now] = await catalogue.locate([chunk.digest]);
      if (now?.packId !== place.packId) {
        place = now;
        continue;
      }
      await catalogue.quarantine([{ digest: chunk.digest, packId: place.packId }]);
      log.error('a chunk is corrupt', { digest: chunk.digest, pack: place.packId });
      throw this.#corrupt(place);
    }
    throw missing(chunk.digest);
  }

  #isWhole(coded: Buffer | undefined, chunk: OpenChunk): coded is Buffer {
    return (
      coded?.length === chunk.codedBytes && this.#context.codec.crc32(coded) === chunk.codedCrc32
    );
  }

  #corrupt({ digest, packId }: ChunkPlace): IngotError {
    return new IngotError(
      'chunk-corrupt',
      `the chunk ${digest} of ${this.image.id} is corrupt in pack ${packId}`,
      { digest, pack: packId, imageId: this.image.id },
    );
  }
}

/** Chunks that are read in one go. */
interface Run {
  readonly packId: string;
  readonly startBytes: number;
  endBytes: number;
  readonly members: number[];
}

/** Indices of chunks in the order of their places: a chunk that repeats breaks no run then. */
function byPlace(chunks: readonly OpenChunk[]): number[] {
  return chunks
    .map((_, index) => index)
    .sort((a, b) => {
      const [one, other] = [chunks[a] as OpenChunk, chunks[b] as OpenChunk];
      if (one.location.packId !== other.location.packId) {
        return one.location.packId < other.location.packId ? -1 : 1;
      }
      return one.location.offsetBytes - other.location.offsetBytes;
    });
}

function* runsOf(chunks: readonly OpenChunk[]): Generator<Run, void, undefined> {
  let run: Run | undefined;
  for (const index of byPlace(chunks)) {
    const chunk = chunks[index] as OpenChunk;
    const { packId, offsetBytes } = chunk.location;
    const endBytes = offsetBytes + chunk.codedBytes;
    const joins =
      run !== undefined &&
      run.packId === packId &&
      offsetBytes - run.endBytes <= MAX_GAP_BYTES &&
      endBytes - run.startBytes <= MAX_READ_BYTES;
    if (run !== undefined && joins) {
      run.endBytes = Math.max(run.endBytes, endBytes);
      run.members.push(index);
      continue;
    }
    if (run !== undefined) yield run;
    run = { packId, startBytes: offsetBytes, endBytes, members: [index] };
  }
  if (run !== undefined) yield run;
}

function openChunk(place: ChunkPlace): OpenChunk {
  return {
    kind: 'chunk',
    digest: place.digest,
    lengthBytes: place.plainBytes,
    codedBytes: place.codedBytes,
    plainCrc32: place.plainCrc32,
    codedCrc32: place.codedCrc32,
    // A copy that is known to be wrong is never read, whatever its CRC says.
    location: {
      packId: place.state === 'quarantined' ? NO_PACK : place.packId,
      offsetBytes: place.offsetBytes,
    },
  };
}

function layoutNumbers({ codedBytes, plainCrc32 }: PageLayout): Omit<PageLayout, 'codedTag'> {
  return { codedBytes, plainCrc32 };
}

/** Measures a page whose chunks were healed, and remembers it. */
async function measurePage(context: LibraryContext, digest: Digest): Promise<PageLayout> {
  const page = await context.manifests.page(digest);
  const layout = layoutOf(page.entries, await locateAll(context, page));
  await context.catalogue.setPageLayout(digest, layout);
  return layout;
}

async function locateAll(context: LibraryContext, page: ManifestPage): Promise<ChunkPlace[]> {
  const digests = chunksOf(page.entries);
  const places = await context.catalogue.locate(digests);
  return places.map((place, i) => {
    if (place === undefined) throw missing(digests[i] as Digest);
    return place;
  });
}

function missing(digest: Digest): IngotError {
  return new IngotError('chunk-missing', `no pack has the chunk ${digest}`, { digest });
}
