import { IngotError, isId } from '../../../../base/index.ts';
import type { ArtifactPayload } from '../../../../publish/index.ts';
import { openRemotePayload, type RemotePayload } from '../../../client/coded-image.ts';
import type { CliContext } from '../../context.ts';
import { openClient } from '../../support/daemon-access.ts';
import { asBuffers, openRootfsFile } from './payload-file.ts';

/** What opening a payload may need. */
interface RootfsPayloadSetup {
  readonly context: CliContext;
  readonly profile?: string | undefined;
  readonly sshArgs?: readonly string[] | undefined;
}

/** A root filesystem: to be coded, or as segments that are there already too. */
export interface RootfsPayload extends Disposable {
  readonly plain: ArtifactPayload;
  readonly coded: RemotePayload | undefined;
}

async function openImage(id: string, setup: RootfsPayloadSetup): Promise<RootfsPayload> {
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
    [Symbol.dispose]: () => kept.dispose(),
  };
}

/**
 * Opens what `-f` of `write rootfs-image` names: a file, an image of the library, or a device.
 *
 * @throws IngotError `source-unsupported` for ssh://…, which is not there yet; the failures of files
 *   and of the daemon
 */
export async function openRootfsPayload(
  source: string,
  setup: RootfsPayloadSetup,
): Promise<RootfsPayload> {
  if (source.startsWith('ssh://')) {
    throw new IngotError(
      'source-unsupported',
      `${source}: devices cannot be named here yet; use ingot snapshot pull and name its file`,
      { source },
    );
  }
  if (isId('img', source)) return await openImage(source, setup);
  return {
    plain: await openRootfsFile(source),
    coded: undefined,
    [Symbol.dispose]: () => undefined,
  };
}
