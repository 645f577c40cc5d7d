import { IngotError, isId } from '../../../../base/index.ts';
import { openRemotePayload } from '../../../client/coded-image.ts';
import { openClient } from '../../support/daemon-access.ts';
import { asBuffers } from './payload-file.ts';
import type { RootfsPayload, RootfsPayloadSetup } from './rootfs-source.ts';

/** Opens an image of a daemon's library. */
export async function openImage(id: string, setup: RootfsPayloadSetup): Promise<RootfsPayload> {
  if (!isId('img', id)) throw new IngotError('image-not-found', `${id} is no image id`);
  using undo = new DisposableStack();
  const client = undo.use(openClient(setup.context, setup));
  const coded = await openRemotePayload(client, id);
  const { name, sizeBytes } = coded;
  const kept = undo.move();
  return {
    plain: {
      name,
      mode: 0o644,
      isAugmented: false,
      sizeBytes,
      open: () => asBuffers(coded.openPlain()),
    },
    coded,
    isReadOnce: false,
    [Symbol.asyncDispose]: () => Promise.resolve(kept.dispose()),
  };
}
