import { IngotError, noProgress, type OnProgress } from '../../base/index.ts';
import { PACK_TARGET_ENTRIES } from '../../bytes/index.ts';
import { PackWriter, packPath } from '../chunks/pack-writer.ts';
import type { PackUsage } from './catalogue.ts';
import { isReadable } from './image.ts';
import type { LibraryContext } from './library-context.ts';
import { PAGE_FOLDERS } from './manifest-files.ts';
import { chunksOf } from './page-layout.ts';
import { readPackChunks } from './read-pack-chunks.ts';

/** How to collect. */
export interface CollectOptions {
  /** Goes on although more than {@link GATE} of the stored bytes would go. */
  readonly isForced?: boolean;
  readonly signal?: AbortSignal;
  readonly onProgress?: OnProgress;
}

/** What a collection did. */
export interface CollectReport {
  readonly removedPages: number;
  readonly condemnedChunks: number;
  readonly removedPacks: number;
  readonly rewrittenPacks: number;
  /** Bytes of removed packs less bytes of packs written instead. */
  readonly freedBytes: number;
}

/** More than this share of the live bytes does not go without being forced. */
const GATE = 0.3;
/** Packs that are wanted to a smaller share than this are rewritten. */
const LIVE_SHARE = 0.6;
/** Packs below this share of the full size are joined once there are {@link MANY} of them. */
const SMALL_SHARE = 0.125;
const MANY = 16;
const STEP = 256;

/**
 * Removes what no image and no running ingest needs (docs/library.md, "Collection").
 *
 * @throws IngotError `library-unusable` when the catalogue and the manifests disagree,
 *   `not-allowed` when too much would go
 */
export async function collectGarbage(
  context: LibraryContext,
  options: CollectOptions = {},
): Promise<CollectReport> {
  return await context.reserve.whileFreeing(async () => {
    await checkRoots(context);
    const removedPages = await sweepPages(context, options);
    await checkGate(context, options);
    const condemnedChunks = await context.catalogue.condemn();
    await markFromManifests(context, options);
    const usage = await context.catalogue.packUsage();
    const dead = usage.filter((pack) => pack.liveBytes === 0 && pack.quarantinedBytes === 0);
    let removedPacks = 0;
    let freedBytes = 0;
    for (const pack of dead) {
      options.signal?.throwIfAborted();
      if (!(await removePack(context, pack.packId))) continue;
      removedPacks += 1;
      freedBytes += pack.sizeBytes;
      tell(options, freedBytes, 'removing packs');
    }
    const rewritten = await rewritePacks(context, options, usage);
    return {
      removedPages,
      condemnedChunks,
      removedPacks,
      rewrittenPacks: rewritten.packs,
      freedBytes: freedBytes + rewritten.freedBytes,
    };
  });
}

/** An empty or short list of images is no proof that nothing is needed. */
async function checkRoots({ catalogue, manifests }: LibraryContext): Promise<void> {
  const roots = new Set((await manifests.list()).roots);
  for (let afterId = ''; ; ) {
    const rows = await catalogue.images({
      accountId: undefined,
      statuses: ['available', 'deprecated', 'failed', 'creating', 'deleting', 'deleted'],
      afterId,
      limit: STEP,
    });
    for (const row of rows) {
      const hasRoot = roots.delete(row.id);
      if (!isReadable(row.status)) continue;
      // Committed since the roots were listed: then its root is there now.
      const isMissing = !hasRoot && !(await manifests.hasRoot(row.id));
      const pages = await catalogue.imagePages(row.id);
      if (!isMissing && pages.length === row.pageCount) continue;
      // Deleted since the rows were listed: its root and its pages went with it.
      const now = await catalogue.image(row.id);
      if (now === undefined || !isReadable(now.status)) continue;
      if (isMissing) throw disagree(`the manifest of ${row.id} is missing`);
      throw disagree(`pages of ${row.id} are not in the index`);
    }
    const last = rows.at(-1);
    if (last === undefined) break;
    afterId = last.id;
  }
  for (const imageId of roots) {
    // Made since the rows were listed, or unknown to a state that was restored from a backup.
    if ((await catalogue.image(imageId)) === undefined) {
      throw disagree(`the manifest of ${imageId} belongs to no image`);
    }
  }
}

/** Removes rows of pages that nothing holds, and then files that have no row. */
async function sweepPages(
  { catalogue, manifests, pageGate }: LibraryContext,
  { signal }: CollectOptions,
): Promise<number> {
  let swept = STEP;
  while (swept === STEP) {
    signal?.throwIfAborted();
    swept = await catalogue.sweepPages(STEP);
  }
  let removed = 0;
  for (const folder of PAGE_FOLDERS) {
    signal?.throwIfAborted();
    // No ingest may find a page's file there between the look at its row and its removal.
    removed += await pageGate.run(async () => {
      const { pages, remains } = await manifests.listPages(folder);
      const unknown = pages.length === 0 ? [] : await catalogue.unknownPages(pages);
      await manifests.removePages(folder, [...unknown, ...remains]);
      return unknown.length;
    });
  }
  return removed;
}

async function checkGate(
  { catalogue }: LibraryContext,
  { isForced }: CollectOptions,
): Promise<void> {
  const { unreferencedBytes, liveBytes } = await catalogue.unreferenced();
  if (isForced === true || unreferencedBytes <= liveBytes * GATE) return;
  throw new IngotError(
    'not-allowed',
    `${unreferencedBytes} of ${liveBytes} stored bytes would go, more than ${GATE * 100} %`,
    { unreferencedBytes, liveBytes },
  );
}

/** The second mark, from other evidence than the first: the manifests on disk, not the index. */
async function markFromManifests(
  { catalogue, manifests }: LibraryContext,
  options: CollectOptions,
): Promise<void> {
  for (let after = ''; ; ) {
    const pages = await catalogue.pages(after, STEP);
    for (const { digest } of pages) {
      options.signal?.throwIfAborted();
      const page = await manifests.page(digest);
      const spared = await catalogue.spare(chunksOf(page.entries));
      if (spared > 0) throw disagree(`${spared} chunks of the page ${digest} were condemned`);
    }
    const last = pages.at(-1);
    if (last === undefined) return;
    after = last.digest;
    tell(options, 0, 'reading manifests');
  }
}

/** @returns whether the pack is gone: not while anything in it is wanted */
async function removePack(
  { catalogue, packFiles, disk }: LibraryContext,
  packId: string,
): Promise<boolean> {
  // The index first: a name in the index always has its file.
  if (!(await catalogue.retirePack(packId))) return false;
  await disk.remove(packPath(packId));
  // Behind it: whoever opened the file until then would keep its space.
  await packFiles.drop(packId);
  return true;
}

async function rewritePacks(
  context: LibraryContext,
  options: CollectOptions,
  usage: readonly PackUsage[],
): Promise<{ packs: number; freedBytes: number }> {
  const { limits } = context;
  const live = usage.filter((pack) => pack.liveBytes > 0);
  const small = live.filter((pack) => pack.sizeBytes < limits.packBytes * SMALL_SHARE);
  const joined = new Set(small.length >= MANY ? small : []);
  const sparse = live.filter(
    (pack) => pack.liveBytes < pack.sizeBytes * LIVE_SHARE || joined.has(pack),
  );
  let packs = 0;
  let freedBytes = 0;
  for (let group: PackUsage[] = []; sparse.length > 0; group = []) {
    let bytes = 0;
    let chunks = 0;
    for (let next = sparse[0]; next !== undefined; next = sparse[0]) {
      bytes += next.liveBytes;
      chunks += next.liveChunks;
      const isTooMuch = bytes > limits.packBytes || chunks > PACK_TARGET_ENTRIES;
      if (group.length > 0 && isTooMuch) break;
      group.push(next);
      sparse.shift();
    }
    options.signal?.throwIfAborted();
    const done = await rewriteGroup(context, group);
    packs += done.packs;
    freedBytes += done.freedBytes;
    tell(options, freedBytes, 'rewriting packs');
  }
  return { packs, freedBytes };
}

/** Copies what is wanted of some packs into a new one, and removes them. */
async function rewriteGroup(
  context: LibraryContext,
  group: readonly PackUsage[],
): Promise<{ packs: number; freedBytes: number }> {
  const { catalogue, disk } = context;
  // The group is bounded already, and its packs become one.
  const writer = new PackWriter(disk, { targetBytes: Number.POSITIVE_INFINITY });
  try {
    for (const { packId } of group) {
      const places = (await catalogue.chunksOfPack(packId)).filter(({ state }) => state === 'live');
      for await (const some of readPackChunks(context, places)) {
        for (const { place, coded } of some) {
          if (coded === undefined) await catalogue.quarantine([place]);
          else if (!writer.has(place.digest)) await writer.append({ ...place, coded });
        }
        await writer.flush();
      }
    }
    const pack = await writer.seal();
    if (pack === undefined) return { packs: 0, freedBytes: 0 };
    const fromPackIds = group.map(({ packId }) => packId);
    const { packId, sizeBytes, entries } = pack;
    await catalogue.movePack(fromPackIds, { packId, sizeBytes }, entries);
    let freedBytes = -sizeBytes;
    let packs = 0;
    for (const old of group) {
      if (!(await removePack(context, old.packId))) continue;
      packs += 1;
      freedBytes += old.sizeBytes;
    }
    return { packs, freedBytes };
  } finally {
    await writer.abort();
  }
}

function tell({ onProgress = noProgress }: CollectOptions, doneBytes: number, stage: string): void {
  onProgress({ doneBytes, totalBytes: undefined, stage });
}

function disagree(what: string): IngotError {
  return new IngotError('library-unusable', `nothing is collected: ${what}`);
}
