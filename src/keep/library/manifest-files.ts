import { type Digest, type Id, IngotError, isId, parseDigest } from '../../base/index.ts';
import {
  formatManifestRoot,
  MAX_PAGE_BYTES,
  MAX_ROOT_BYTES,
  type ManifestPage,
  type ManifestRoot,
  parseManifestPage,
  parseManifestRoot,
} from '../../bytes/index.ts';
import { type Disk, folderOf, readWhole, writeWhole } from '../chunks/disk.ts';
import type { ImageRow } from './catalogue.ts';
import { formatImageRecord, type ImageRecord, parseImageRecord } from './image-record.ts';
import type { LibraryKey } from './library-key.ts';

const IMAGES_FOLDER = 'manifests/images';
const PAGES_FOLDER = 'manifests/pages';
const MAX_RECORD_BYTES = 1024 * 1024;

/** Folders of pages: the first two digits of their digests. */
export const PAGE_FOLDERS: readonly string[] = Array.from({ length: 256 }, (_, i) =>
  i.toString(16).padStart(2, '0'),
);

/** Manifests and records as files of the data directory (docs/formats/manifest.md). */
export class ManifestFiles {
  readonly #disk: Disk;
  readonly #key: LibraryKey;
  readonly #trusted: readonly string[];

  /** @param trusted further public keys whose signatures count, in base64 */
  constructor(disk: Disk, key: LibraryKey, trusted: readonly string[] = []) {
    this.#disk = disk;
    this.#key = key;
    this.#trusted = [key.publicKey, ...trusted];
  }

  /**
   * Makes pages durable. One that is there and whole is left; a damaged one is replaced.
   *
   * Files first and their folders after, so that the disk can join the syncs.
   */
  async putPages(pages: readonly ManifestPage[]): Promise<void> {
    const folders = new Set<string>();
    // A disk that repeats itself for long, such as flash that was erased, repeats its pages too.
    const unequal = new Map(pages.map((page) => [page.digest, page]));
    await Promise.all(
      Array.from(unequal.values(), async (page) => {
        const path = pagePath(page.digest);
        const there = await readWhole(this.#disk, path, MAX_PAGE_BYTES);
        // Also where the page was there: who wrote it may not have synced the folder yet.
        folders.add(folderOf(path));
        if (there?.equals(page.bytes)) return;
        await writeWhole(this.#disk, path, page.bytes, { isDurable: false });
      }),
    );
    await Promise.all([...folders].map((folder) => this.#disk.syncFolder(folder)));
  }

  /** @throws IngotError `manifest-invalid` when it is missing or damaged */
  async page(digest: Digest): Promise<ManifestPage> {
    const bytes = await readWhole(this.#disk, pagePath(digest), MAX_PAGE_BYTES);
    if (bytes === undefined) {
      throw new IngotError('manifest-invalid', `manifest page ${digest} is missing`, { digest });
    }
    return parseManifestPage(bytes, digest);
  }

  /** @returns the pages in one of {@link PAGE_FOLDERS}, and names of what was never finished */
  async listPages(
    folder: string,
  ): Promise<{ readonly pages: Digest[]; readonly remains: string[] }> {
    const names = await this.#disk.list(`${PAGES_FOLDER}/${folder}`);
    const pages = names.map(parseDigest).filter((digest) => digest !== undefined);
    return { pages, remains: names.filter((name) => name.endsWith('.new')) };
  }

  /** @param names of files in one of {@link PAGE_FOLDERS} */
  async removePages(folder: string, names: readonly string[]): Promise<void> {
    for (const name of names) await this.#disk.remove(`${PAGES_FOLDER}/${folder}/${name}`);
  }

  async putRoot(root: ManifestRoot): Promise<void> {
    const bytes = formatManifestRoot(root, this.#key.privateKey);
    if (bytes.length > MAX_ROOT_BYTES) {
      throw new IngotError('manifest-invalid', `a manifest of ${bytes.length} bytes is too large`);
    }
    await writeWhole(this.#disk, rootPath(root.imageId), bytes);
  }

  /** @throws IngotError `manifest-invalid` when it is missing, damaged or signed by somebody else */
  async root(imageId: Id<'img'>): Promise<ManifestRoot> {
    const bytes = await readWhole(this.#disk, rootPath(imageId), MAX_ROOT_BYTES);
    if (bytes === undefined) {
      throw new IngotError('manifest-invalid', `the manifest of ${imageId} is missing`, {
        imageId,
      });
    }
    const root = parseManifestRoot(bytes, this.#trusted);
    if (root.imageId !== imageId) {
      throw new IngotError(
        'manifest-invalid',
        `the manifest of ${imageId} is that of ${root.imageId}`,
        { imageId },
      );
    }
    return root;
  }

  async hasRoot(imageId: Id<'img'>): Promise<boolean> {
    return (await this.#disk.sizeOf(rootPath(imageId))) !== undefined;
  }

  /** Copies the signed root, byte for byte. */
  async copyRoot(imageId: Id<'img'>, target: Disk): Promise<void> {
    const bytes = await readWhole(this.#disk, rootPath(imageId), MAX_ROOT_BYTES);
    if (bytes === undefined) {
      throw new IngotError('manifest-invalid', `the manifest of ${imageId} is missing`, {
        imageId,
      });
    }
    await writeWhole(target, rootPath(imageId), bytes);
  }

  async removeRoot(imageId: Id<'img'>): Promise<void> {
    await this.#disk.remove(rootPath(imageId));
  }

  async putRecord(row: ImageRow): Promise<void> {
    await writeWhole(this.#disk, recordPath(row.id), formatImageRecord(row));
  }

  async record(imageId: Id<'img'>): Promise<ImageRecord | undefined> {
    const bytes = await readWhole(this.#disk, recordPath(imageId), MAX_RECORD_BYTES);
    return bytes === undefined ? undefined : parseImageRecord(bytes, imageId);
  }

  async removeRecord(imageId: Id<'img'>): Promise<void> {
    await this.#disk.remove(recordPath(imageId));
  }

  async syncImages(): Promise<void> {
    await this.#disk.syncFolder(IMAGES_FOLDER);
  }

  /** @returns ids that have a manifest, and ids that have a record, ascending */
  async list(): Promise<{ readonly roots: Id<'img'>[]; readonly records: Id<'img'>[] }> {
    const names = await this.#disk.list(IMAGES_FOLDER);
    const idsOf = (ending: string): Id<'img'>[] =>
      names
        .filter((name) => name.endsWith(ending))
        .map((name) => name.slice(0, -ending.length))
        .filter((name) => isId('img', name));
    return { roots: idsOf('.manifest'), records: idsOf('.record.json') };
  }
}

/**
 * Makes the folders of a library; those that are there stay.
 *
 * Also of one that was copied by something that leaves empty folders out.
 */
export async function makeLibraryFolders(disk: Disk): Promise<void> {
  for (const folder of ['packs', 'incoming', 'manifests', IMAGES_FOLDER, PAGES_FOLDER]) {
    await disk.makeFolder(folder);
  }
  const there = new Set(await disk.list(PAGES_FOLDER));
  const missing = PAGE_FOLDERS.filter((folder) => !there.has(folder));
  if (missing.length === 0) return;
  for (const folder of missing) await disk.makeFolder(`${PAGES_FOLDER}/${folder}`);
  for (const folder of [PAGES_FOLDER, 'manifests', '.']) await disk.syncFolder(folder);
}

function pagePath(digest: Digest): string {
  return `${PAGES_FOLDER}/${digest.slice(0, 2)}/${digest}`;
}

function rootPath(imageId: Id<'img'>): string {
  return `${IMAGES_FOLDER}/${imageId}.manifest`;
}

function recordPath(imageId: Id<'img'>): string {
  return `${IMAGES_FOLDER}/${imageId}.record.json`;
}
