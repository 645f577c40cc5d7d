import { type Id, IngotError, MIB, noProgress, type OnProgress } from '../../base/index.ts';
import { isPackId } from '../../bytes/index.ts';
import type { Disk } from '../chunks/disk.ts';
import { PackFiles, readPackIndex } from '../chunks/pack-reader.ts';
import { PackWriter } from '../chunks/pack-writer.ts';
import type { ManifestEntry } from '../ingest/ingest-session.ts';
import type { ChunkPlace } from './catalogue.ts';
import type { Image } from './image.ts';
import type { AccountLibrary, LibrarySession } from './image-library.ts';
import type { LibraryContext } from './library-context.ts';
import { writeMarker } from './library-key.ts';
import { ManifestFiles, makeLibraryFolders } from './manifest-files.ts';
import { chunksOf } from './page-layout.ts';
import { readPackChunks } from './read-pack-chunks.ts';

/** How to export. */
export interface TransferOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: OnProgress;
}

/** How to import. */
export interface ImportOptions extends TransferOptions {
  /** Public keys (32 bytes in base64) of libraries whose manifests are believed. */
  readonly trust?: readonly string[];
}

/** Coded bytes that are handed over at once. */
const PUT_BYTES = 8 * MIB;
const ASK_CHUNKS = 4096;

/**
 * Writes one image into an empty directory, in the form of a library without keys and databases.
 *
 * Packs are written anew with what the image needs, in disk order, each chunk inflated and compared.
 */
export async function exportImage(
  context: LibraryContext,
  imageId: Id<'img'>,
  target: Disk,
  { signal, onProgress = noProgress }: TransferOptions,
): Promise<void> {
  const { catalogue, manifests, key } = context;
  const row = await catalogue.image(imageId);
  if (row === undefined || (row.status !== 'available' && row.status !== 'deprecated')) {
    throw new IngotError('image-not-found', `there is no image ${imageId}`, { imageId });
  }
  const names = (await target.list('.')).filter((name) => name !== 'lost+found');
  if (names.length > 0) {
    throw new IngotError('target-in-use', `the directory is not empty: it has ${names[0]}`);
  }
  await makeLibraryFolders(target);
  const copies = new ManifestFiles(target, key);
  const root = await manifests.root(imageId);
  let writer = new PackWriter(target);
  let doneBytes = 0;
  try {
    for (const { digest, plainBytes } of root.pages) {
      signal?.throwIfAborted();
      const page = await manifests.page(digest);
      const wanted = new Set(chunksOf(page.entries).filter((chunk) => !writer.has(chunk)));
      await copyChunks(context, await catalogue.locate([...wanted]), writer);
      if (writer.isFull) {
        await writer.seal();
        writer = new PackWriter(target);
      }
      await copies.putPages([page]);
      doneBytes += plainBytes;
      onProgress({ doneBytes, totalBytes: root.virtualSizeBytes, stage: 'exporting' });
    }
    await writer.seal();
  } finally {
    await writer.abort();
  }
  await copies.putRecord(row);
  await manifests.copyRoot(imageId, target);
  await writeMarker(target, key);
}

async function copyChunks(
  context: LibraryContext,
  places: readonly (ChunkPlace | undefined)[],
  writer: PackWriter,
): Promise<void> {
  const known = places.filter((place) => place !== undefined);
  if (known.length < places.length) {
    throw new IngotError('chunk-missing', `${places.length - known.length} chunks are in no pack`);
  }
  // Read pack by pack, each in file order; the order in the copy is that of the reads.
  const packs = Map.groupBy(known, ({ packId }) => packId);
  for (const some of packs.values()) {
    some.sort((a, b) => a.offsetBytes - b.offsetBytes);
    for await (const chunks of readPackChunks(context, some)) {
      for (const { place, coded } of chunks) {
        if (coded === undefined) {
          throw new IngotError('chunk-corrupt', `the chunk ${place.digest} is corrupt`, {
            digest: place.digest,
          });
        }
        await writer.append({ ...place, coded });
      }
      await writer.flush();
    }
  }
}

/** Takes an image in from the directory of an export: all of its packs are delivered. */
export async function importImage(
  context: LibraryContext,
  account: AccountLibrary,
  imageId: Id<'img'>,
  source: Disk,
  { trust = [], signal, onProgress = noProgress }: ImportOptions,
): Promise<Image> {
  const manifests = new ManifestFiles(source, context.key, trust);
  const root = await manifests.root(imageId);
  const record = await manifests.record(imageId);
  const session = await account.begin({
    name: record?.name ?? imageId,
    description: record?.description ?? '',
    kind: record?.kind ?? 'upload',
    arch: record?.arch ?? '',
    // The ancestor is an image of another library, unless this one knows it too.
    ancestorId: undefined,
    compatibilityMode: record?.compatibilityMode ?? false,
  });
  try {
    let doneBytes = 0;
    for (const name of await source.list('packs')) {
      signal?.throwIfAborted();
      const packId = name.replace(/\.pack$/, '');
      if (!isPackId(packId)) continue;
      doneBytes += await deliverPack(session, source, packId);
      onProgress({ doneBytes, totalBytes: undefined, stage: 'importing' });
    }
    return await session.commit(entriesOf(manifests, root.pages), {
      sizeBytes: root.virtualSizeBytes,
      chunkRule: root.chunkRule,
      capture: root.capture,
      plainDigest: root.claimedDigest ?? record?.plainDigest ?? undefined,
    });
  } finally {
    await session.abort();
  }
}

async function* entriesOf(
  manifests: ManifestFiles,
  pages: readonly { readonly digest: Parameters<ManifestFiles['page']>[0] }[],
): AsyncGenerator<readonly ManifestEntry[], void, undefined> {
  for (const { digest } of pages) yield (await manifests.page(digest)).entries;
}

/** Delivers what the library does not have of one pack. @returns the pack's size */
async function deliverPack(session: LibrarySession, source: Disk, packId: string): Promise<number> {
  const index = await readPackIndex(source, packId);
  if (index === undefined) return 0;
  await using files = new PackFiles(source, 1);
  for (let from = 0; from < index.entries.length; from += ASK_CHUNKS) {
    const some = index.entries.slice(from, from + ASK_CHUNKS);
    const isThere = await session.have(some.map(({ digest }) => digest));
    const wanted = some.filter((_, i) => isThere[i] !== true);
    for (let next = 0; next < wanted.length; ) {
      const segments = [];
      for (let bytes = 0; next < wanted.length && bytes < PUT_BYTES; next++) {
        const entry = wanted[next] as (typeof wanted)[number];
        const coded = await files.read(packId, entry.offsetBytes, entry.codedBytes);
        segments.push({ ...entry, coded: coded ?? Buffer.alloc(0) });
        bytes += entry.codedBytes;
      }
      await session.put(segments);
    }
  }
  return index.sizeBytes;
}
