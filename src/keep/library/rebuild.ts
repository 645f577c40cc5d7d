import { type Digest, type Id, isFailure } from '../../base/index.ts';
import { isPackId, type ManifestRoot } from '../../bytes/index.ts';
import { readPackIndex } from '../chunks/pack-reader.ts';
import type { ImageRow } from './catalogue.ts';
import type { ImageRecord } from './image-record.ts';
import type { LibraryContext } from './library-context.ts';
import { adoptOwners } from './lost-state.ts';
import { chunksOf } from './page-layout.ts';

/** What a rebuild found. */
export interface RebuildReport {
  readonly packs: number;
  readonly images: number;
  /** Packs without a readable index: what only they held is missing. */
  readonly corruptPacks: string[];
  /** Images whose manifest or chunks are not all there; they are not changed. */
  readonly damagedImages: Id<'img'>[];
}

/**
 * Makes the index again from the packs and manifests, and adds images that the state has lost.
 *
 * Nobody else may use the library meanwhile. Interrupted, it starts anew at the next opening.
 */
export async function rebuildIndex(context: LibraryContext): Promise<RebuildReport> {
  const { disk, catalogue, manifests, log } = context;
  const report = {
    packs: 0,
    images: 0,
    corruptPacks: [] as string[],
    damagedImages: [] as Id<'img'>[],
  };
  await catalogue.beginRebuild();
  for (const name of await disk.list('packs')) {
    const packId = name.replace(/\.pack$/, '');
    if (!isPackId(packId)) continue;
    try {
      const index = await readPackIndex(disk, packId);
      if (index === undefined) continue;
      await catalogue.addPack(undefined, { packId, sizeBytes: index.sizeBytes }, index.entries);
      report.packs += 1;
    } catch (error) {
      if (!isFailure(error, 'pack-corrupt')) throw error;
      report.corruptPacks.push(packId);
      log.error('a pack has no readable index', { pack: packId, error: error.message });
    }
  }
  const { roots, records } = await manifests.list();
  for (const imageId of roots) {
    if (await rebuildImage(context, imageId)) report.images += 1;
    else report.damagedImages.push(imageId);
  }
  for (const imageId of records) await rememberDeleted(context, imageId);
  await adoptOwners(context);
  await catalogue.endRebuild();
  return report;
}

/** @returns whether every page and every chunk of the image was found */
async function rebuildImage(context: LibraryContext, imageId: Id<'img'>): Promise<boolean> {
  const { catalogue, manifests, log } = context;
  try {
    const root = await manifests.root(imageId);
    const record = await manifests.record(imageId);
    const known = await catalogue.image(imageId);
    // Being made or being deleted: recovery ends that, and needs no pages for it.
    if (known?.status === 'creating' || known?.status === 'deleted' || known?.status === 'failed') {
      return true;
    }
    if (known === undefined && record?.status === 'deleted') return true;
    let isWhole = true;
    for (const [number, { digest, entries, plainBytes }] of root.pages.entries()) {
      const page = await manifests.page(digest);
      const row = { digest, entries, plainBytes, layout: undefined };
      const chunks = chunksOf(page.entries);
      if (!(await catalogue.adoptPage(imageId, number, row, chunks))) isWhole = false;
    }
    if (known === undefined && record !== undefined) {
      await catalogue.adoptImage(imageRow(root, record));
    }
    if (!isWhole) log.error('chunks of an image are in no pack', { imageId });
    return isWhole;
  } catch (error) {
    if (!isFailure(error, 'manifest-invalid')) throw error;
    log.error('a manifest is damaged', { imageId, error: error.message });
    return false;
  }
}

/** An id is never given out twice, not even after the state was lost. */
async function rememberDeleted(context: LibraryContext, imageId: Id<'img'>): Promise<void> {
  const { catalogue, manifests, log } = context;
  if ((await catalogue.image(imageId)) !== undefined) return;
  try {
    const record = await manifests.record(imageId);
    if (record === undefined) return;
    const nothing: ManifestRoot = {
      libraryId: context.libraryId,
      imageId,
      ownerId: record.ownerId,
      createdAt: record.createdAt,
      virtualSizeBytes: record.virtualSizeBytes,
      chunkRule: '',
      claimedDigest: undefined,
      capture: {
        consistency: 'none',
        freezeMs: 0,
        filesystem: undefined,
        source: '',
        freeSpace: 'keep',
      },
      pages: [],
    };
    const status = record.status === 'deleted' ? 'deleted' : 'failed';
    await catalogue.adoptImage({ ...imageRow(nothing, record), status });
  } catch (error) {
    if (!isFailure(error, 'manifest-invalid')) throw error;
    log.error('the record of an image is damaged', { imageId, error: error.message });
  }
}

function imageRow(root: ManifestRoot, record: ImageRecord): ImageRow {
  return {
    id: root.imageId,
    ownerId: root.ownerId,
    createdAt: root.createdAt,
    virtualSizeBytes: root.virtualSizeBytes,
    chunkRule: root.chunkRule,
    claimedDigest: root.claimedDigest,
    capture: root.capture,
    pageCount: root.pages.length,
    name: record.name,
    description: record.description,
    kind: record.kind,
    arch: record.arch,
    ancestorId: record.ancestorId ?? undefined,
    compatibilityMode: record.compatibilityMode,
    status: record.status,
    isPublic: record.isPublic,
    isOfficial: record.isOfficial,
    isLocked: record.isLocked,
    gzipSizeBytes: record.gzipSizeBytes,
    addedBytes: record.addedBytes,
    plainDigest: (record.plainDigest ?? undefined) as Digest | undefined,
  };
}
