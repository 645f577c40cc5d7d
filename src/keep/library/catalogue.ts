import type { Digest, Id } from '../../base/index.ts';
import type { PackEntry } from '../../bytes/index.ts';
import type { AccountCatalogue } from '../accounts/account-catalogue.ts';
import type { ImportChanges, ImportOrder } from '../imports/import-order.ts';
import type { JobCatalogue } from '../jobs/job-catalogue.ts';
import type { Image, ImageStatus } from './image.ts';

/**
 * A chunk is `live`, `condemned` (collection will take it; nobody may refer to it anew) or
 * `quarantined` (its stored bytes are wrong; a new copy heals it).
 */
type ChunkState = 'live' | 'condemned' | 'quarantined';

/** Where the index says that a chunk lies. */
export interface ChunkPlace extends PackEntry {
  readonly packId: string;
  readonly state: ChunkState;
}

/** A sealed pack, as the index knows it. */
export interface PackRow {
  readonly packId: string;
  readonly sizeBytes: number;
}

/** A pack and how many of its coded bytes are still wanted. */
export interface PackUsage extends PackRow {
  readonly liveBytes: number;
  readonly liveChunks: number;
  readonly condemnedBytes: number;
  readonly quarantinedBytes: number;
}

/** A manifest page, with what its chunks take as segments (undefined when that must be counted). */
export interface PageRow {
  readonly digest: Digest;
  readonly entries: number;
  readonly plainBytes: number;
  readonly layout: PageLayout | undefined;
}

/** A page on its way in, and the chunks that it names. */
export interface StagedPage {
  readonly row: PageRow;
  readonly digests: readonly Digest[];
}

/** What a page's entries are as segments. It changes when a chunk is healed, and never otherwise. */
export interface PageLayout {
  readonly codedBytes: number;
  readonly plainCrc32: number;
  /** SHA-256 over (digest, coded length, coded CRC-32) of all entries. */
  readonly codedTag: Digest;
}

/** An image as the catalogue keeps it: the image, and what only the library needs. */
export interface ImageRow extends Image {
  readonly chunkRule: string;
  readonly claimedDigest: Digest | undefined;
  readonly pageCount: number;
}

/** What may change of an image. */
export type ImageChanges = Partial<
  Pick<
    ImageRow,
    | 'name'
    | 'description'
    | 'arch'
    | 'compatibilityMode'
    | 'status'
    | 'isPublic'
    | 'isOfficial'
    | 'isLocked'
    | 'plainDigest'
    | 'failure'
  >
>;

/** Which images to list. */
export interface ImageFilter {
  /** Own images of this account, and public ones; undefined: everybody's. */
  readonly accountId: Id<'acc'> | undefined;
  readonly statuses: readonly ImageStatus[];
  /** Continue behind this id. */
  readonly afterId: string;
  readonly limit: number;
}

/** Chunks by state, for people and for the gate of a collection. */
export interface LibraryCounts {
  readonly images: number;
  readonly packs: number;
  readonly packBytes: number;
  readonly chunks: number;
  readonly liveBytes: number;
  readonly condemnedBytes: number;
  readonly quarantinedChunks: number;
  /** Plain bytes of all live chunks. */
  readonly plainBytes: number;
  /** Plain bytes of the disks of all images, holes included. */
  readonly virtualBytes: number;
}

/** The part of the catalogue that an ingest needs. */
interface IngestCatalogue {
  beginSession(session: string): Promise<void>;
  /** Forgets what the session was given. Doing it twice is safe. */
  endSession(session: string): Promise<void>;
  /** Notes for the session which chunks the account can see in its own and in public images. */
  grant(session: string, accountId: Id<'acc'>, digests: readonly Digest[]): Promise<boolean[]>;
  /** Notes for the session chunks that it has proved to hold; true: they are stored already. */
  deliver(session: string, digests: readonly Digest[]): Promise<boolean[]>;
  /** Makes the chunks of a sealed pack known; a copy replaces a condemned or quarantined one. */
  addPack(session: string | undefined, pack: PackRow, entries: readonly PackEntry[]): Promise<void>;
  /** @throws IngotError `chunk-missing` for a chunk that the session was not given */
  placesFor(session: string, digests: readonly Digest[]): Promise<ChunkPlace[]>;
  /**
   * Makes pages known, held by the session until `commitImage` or `endSession`: all of them or none.
   *
   * @param firstNumber place of the first one in its image; the others follow it
   */
  stagePages(session: string, firstNumber: number, pages: readonly StagedPage[]): Promise<void>;
  /**
   * Makes an id known for ever, with status `creating`.
   *
   * @returns false when the id was used before
   */
  reserveImage(row: ImageRow): Promise<boolean>;
  /**
   * Gives the image its staged pages and its status.
   *
   * @throws IngotError `ingest-expired` when the session is gone
   */
  commitImage(session: string, row: ImageRow): Promise<void>;
}

/** The part of the catalogue that readers and owners need. */
interface ImageCatalogue {
  images(filter: ImageFilter): Promise<ImageRow[]>;
  image(imageId: string): Promise<ImageRow | undefined>;
  updateImage(imageId: string, changes: ImageChanges): Promise<void>;
  imagePages(imageId: string): Promise<PageRow[]>;
  setPageLayout(page: Digest, layout: PageLayout): Promise<void>;
  /** Lets go of an image's pages, so that collection may have what only it held. */
  releasePages(imageId: string): Promise<void>;
  locate(digests: readonly Digest[]): Promise<(ChunkPlace | undefined)[]>;
  /** Marks corrupt copies, unless the chunk lies elsewhere by now. */
  quarantine(places: readonly { digest: Digest; packId: string }[]): Promise<void>;
  /** Takes that back for copies that were read back whole after all. */
  endQuarantine(places: readonly { digest: Digest; packId: string }[]): Promise<void>;
  /** @returns ids of images that hold one of the chunks, at most `limit` */
  imagesWith(digests: readonly Digest[], limit: number): Promise<Id<'img'>[]>;
  /**
   * @returns images of at most `mostBytes` whose digest nobody knows and no job was ever to compute,
   *   at most `limit`
   */
  imagesWithoutDigest(
    mostBytes: number,
    limit: number,
  ): Promise<{ readonly id: Id<'img'>; readonly ownerId: Id<'acc'> }[]>;
  counts(): Promise<LibraryCounts>;
}

/** The part of the catalogue that collection, verify and rebuild need. */
interface UpkeepCatalogue {
  packs(afterPackId: string, limit: number): Promise<PackRow[]>;
  chunksOfPack(packId: string): Promise<ChunkPlace[]>;
  /** @returns pages that an image holds; what only sessions staged may have no file yet */
  pages(afterDigest: string, limit: number): Promise<PageRow[]>;
  /** Forgets pages that no image and no session holds; returns how many. */
  sweepPages(limit: number): Promise<number>;
  /** @returns those of `digests` that are no known page */
  unknownPages(digests: readonly Digest[]): Promise<Digest[]>;
  /** @returns coded bytes of live chunks that no page and no session holds, and of all live chunks */
  unreferenced(): Promise<{ readonly unreferencedBytes: number; readonly liveBytes: number }>;
  /** Condemns every chunk that no page and no session holds. Returns how many. */
  condemn(): Promise<number>;
  /** Makes condemned chunks live again that a manifest still names. Returns how many there were. */
  spare(digests: readonly Digest[]): Promise<number>;
  packUsage(): Promise<PackUsage[]>;
  /**
   * Forgets the condemned chunks of a pack.
   *
   * @returns whether nothing is left, so that the pack is forgotten too and its file may go
   */
  retirePack(packId: string): Promise<boolean>;
  /** Points chunks of `fromPackIds` that are still live to their copies in the new pack. */
  movePack(
    fromPackIds: readonly string[],
    pack: PackRow,
    entries: readonly PackEntry[],
  ): Promise<void>;
  /** Empties the index, and marks it as incomplete until `endRebuild`. */
  beginRebuild(): Promise<void>;
  /** Makes a page known that a manifest names; false when a chunk of it is in no pack. */
  adoptPage(
    imageId: string,
    number: number,
    page: PageRow,
    digests: readonly Digest[],
  ): Promise<boolean>;
  /** Adds an image that the catalogue does not know yet; changes nothing where it does. */
  adoptImage(row: ImageRow): Promise<void>;
  endRebuild(): Promise<void>;
  /** Whether a rebuild was begun and not ended, or the index was made anew. */
  isIndexIncomplete(): Promise<boolean>;
  /** Writes a whole copy of the state to a file in the data directory. */
  backup(path: string): Promise<void>;
}

/** The part of the catalogue that imports need. */
interface ImportCatalogue {
  /**
   * Makes an image known as `creating`, and its order with it.
   *
   * @returns false when the id was used before
   */
  addImport(row: ImageRow, order: ImportOrder): Promise<boolean>;
  importOrder(imageId: string): Promise<ImportOrder | undefined>;
  /** @returns all orders that have not ended */
  importOrders(): Promise<ImportOrder[]>;
  /** @returns the order as it is now; undefined when it has ended */
  changeImport(imageId: string, changes: ImportChanges): Promise<ImportOrder | undefined>;
  /**
   * Forgets an order. An image that is not made by then is `failed`.
   *
   * @param failure why, for people
   */
  endImport(imageId: string, failure: string): Promise<void>;
}

/**
 * What the library remembers: chunks, packs, images, accounts, jobs. Use cases, not SQL.
 *
 * Every implementation passes `test/contracts/catalogue.ts`, and promises that:
 *
 * - each call is one transaction: done and durable when it returns, or not at all;
 * - calls are served one after another in the order in which they were made;
 * - sessions and what they hold end with the process.
 *
 * Failures: `library-full`, `library-unusable`, `version-unknown` for a newer schema.
 */
export interface Catalogue
  extends IngestCatalogue,
    ImageCatalogue,
    UpkeepCatalogue,
    AccountCatalogue,
    JobCatalogue,
    ImportCatalogue,
    AsyncDisposable {}
