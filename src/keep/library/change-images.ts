import { type Id, IngotError } from '../../base/index.ts';
import type { ImageChanges, ImageRow } from './catalogue.ts';
import type { ImageStatus } from './image.ts';
import type { LibraryContext } from './library-context.ts';

/**
 * Changes what an owner says of an image that can be read.
 *
 * @returns the image as it is now
 * @throws IngotError `image-not-found`
 */
export async function changeImage(
  { catalogue, manifests, imageGate, reserve }: LibraryContext,
  row: ImageRow,
  changes: ImageChanges,
): Promise<ImageRow> {
  return await imageGate.run(async () => {
    const now = await catalogue.image(row.id);
    if (now === undefined || (now.status !== 'available' && now.status !== 'deprecated')) {
      throw imageNotFound(row.id);
    }
    const changed: ImageRow = { ...now, ...changes };
    await reserve.whileFreeing(async () => {
      // The record first: after a crash in between the change is lost, but nothing is wrong.
      await manifests.putRecord(changed);
      await catalogue.updateImage(row.id, changes);
    });
    return changed;
  });
}

/**
 * Deletes an image. What it held goes at once, or with its last reader ({@link finishDeletion}).
 *
 * @param statuses in which it may be deleted
 * @throws IngotError `image-not-found`, `image-in-use` when it is locked
 */
export async function destroyImage(
  context: LibraryContext,
  row: ImageRow,
  statuses: readonly ImageStatus[],
): Promise<void> {
  const { catalogue, manifests, imageGate, reserve, leases } = context;
  await imageGate.run(async () => {
    const now = await catalogue.image(row.id);
    if (now === undefined || !statuses.includes(now.status)) throw imageNotFound(row.id);
    if (now.isLocked) throw new IngotError('image-in-use', `${row.id} is locked`);
    await reserve.whileFreeing(async () => {
      await catalogue.updateImage(row.id, { status: 'deleting' });
      await manifests.putRecord({ ...now, status: 'deleted' });
    });
  });
  if (!leases.has(row.id)) await finishDeletion(context, row.id);
}

/** Lets go of what a deleted image held. Interrupted, the next start goes on. */
export async function finishDeletion(
  { catalogue, manifests, imageGate, reserve, leases }: LibraryContext,
  imageId: Id<'img'>,
): Promise<void> {
  await imageGate.run(() =>
    reserve.whileFreeing(async () => {
      const row = await catalogue.image(imageId);
      if (row?.status !== 'deleting' || leases.has(imageId)) return;
      await manifests.removeRoot(imageId);
      await manifests.syncImages();
      await catalogue.releasePages(imageId);
      await catalogue.updateImage(imageId, { status: 'deleted' });
    }),
  );
}

function imageNotFound(imageId: Id<'img'>): IngotError {
  return new IngotError('image-not-found', `there is no image ${imageId}`, { imageId });
}
