import { IngotError } from '../../base/index.ts';
import { isPackId } from '../../bytes/index.ts';
import { readPackIndex } from '../chunks/pack-reader.ts';
import { packPath } from '../chunks/pack-writer.ts';
import type { LibraryContext } from './library-context.ts';
import { warnOfLostState } from './lost-state.ts';
import { rebuildIndex } from './rebuild.ts';

/**
 * Makes a library whole again after whatever ended its last process.
 *
 * @param isRebuild whether the index is made again although it seems complete
 */
export async function recoverLibrary(context: LibraryContext, isRebuild: boolean): Promise<void> {
  const { disk, catalogue, log } = context;
  // Nothing in incoming/ was ever acknowledged.
  for (const name of await disk.list('incoming')) await disk.remove(`incoming/${name}`);
  if (isRebuild || (await catalogue.isIndexIncomplete())) {
    const packs = await disk.list('packs');
    if (packs.length > 0)
      log.warn('the index is incomplete: it is made again', { packs: packs.length });
    await rebuildIndex(context);
  } else {
    await adoptPacks(context);
  }
  await finishImages(context);
  await warnOfLostState(context);
}

/** A pack that was sealed but not indexed holds nothing that anybody was told of; gc may have it. */
async function adoptPacks({ disk, catalogue, log }: LibraryContext): Promise<void> {
  const onDisk = new Set((await disk.list('packs')).map((name) => name.replace(/\.pack$/, '')));
  let after = '';
  for (;;) {
    const rows = await catalogue.packs(after, 1000);
    for (const { packId } of rows) {
      if (onDisk.delete(packId)) continue;
      log.error('a pack is missing', { pack: packId });
    }
    const last = rows.at(-1);
    if (last === undefined) break;
    after = last.packId;
  }
  for (const packId of onDisk) {
    if (!isPackId(packId)) continue;
    try {
      const index = await readPackIndex(disk, packId);
      if (index === undefined) continue;
      await catalogue.addPack(undefined, { packId, sizeBytes: index.sizeBytes }, index.entries);
      log.info('a pack that was not indexed is now', { pack: packId });
    } catch (error) {
      if (!(error instanceof IngotError) || error.code !== 'pack-corrupt') throw error;
      log.error('a pack that nobody names is corrupt', { pack: packId, file: packPath(packId) });
    }
  }
}

/** Ends what was being made or deleted. */
async function finishImages(context: LibraryContext): Promise<void> {
  const { catalogue, manifests, reserve } = context;
  const orders = await catalogue.importOrders();
  const imported = new Set(orders.map(({ imageId }) => imageId));
  for (const status of ['creating', 'deleting'] as const) {
    for (let afterId = ''; ; ) {
      const rows = await catalogue.images({
        accountId: undefined,
        statuses: [status],
        afterId,
        limit: 100,
      });
      for (const row of rows) {
        await reserve.whileFreeing(async () => {
          if (status === 'creating') await manifests.removeRecord(row.id);
          else await manifests.putRecord({ ...row, status: 'deleted' });
          await manifests.removeRoot(row.id);
          await manifests.syncImages();
          await catalogue.releasePages(row.id);
          // Its import goes on, and makes it anew.
          if (status === 'creating' && imported.has(row.id)) return;
          await catalogue.updateImage(row.id, {
            status: status === 'creating' ? 'failed' : 'deleted',
          });
        });
      }
      const last = rows.at(-1);
      if (last === undefined) break;
      afterId = last.id;
    }
  }
}
