import { IngotError, isId } from '../../../../base/index.ts';
import { openRemoteSource } from '../../../../capture/adapters/open-remote-source.ts';
import { MAX_STALL_MS } from '../../../../capture/index.ts';
import { type ArtifactPayload, snapshotPayload } from '../../../../publish/index.ts';
import { openRemotePayload, type RemotePayload } from '../../../client/coded-image.ts';
import type { CliContext } from '../../context.ts';
import { openClient } from '../../support/daemon-access.ts';
import { sudoPassword } from '../../support/remote-source.ts';
import { writtenWhileFrozen } from '../../support/snapshot-output.ts';
import { asBuffers, openRootfsFile } from './payload-file.ts';

/** What opening a payload may need. */
interface RootfsPayloadSetup {
  readonly context: CliContext;
  readonly profile?: string | undefined;
  readonly sshArgs?: readonly string[] | undefined;
  /** A folder of the filesystem, or a block device, of a device over ssh. */
  readonly source: string;
  /** Where the artifact goes. */
  readonly outputPath: string;
}

/** A root filesystem: to be coded, or as segments that are there already too. */
export interface RootfsPayload extends AsyncDisposable {
  readonly plain: ArtifactPayload;
  readonly coded: RemotePayload | undefined;
  /** Whether it cannot be read to find its digest, and again to be written. */
  readonly isReadOnce: boolean;
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
    isReadOnce: false,
    [Symbol.asyncDispose]: () => Promise.resolve(kept.dispose()),
  };
}

/**
 * Opens a device over ssh; it is frozen when the payload is read, and thawed after.
 *
 * The file is called by its filesystem, as that of a dump would be: both give the same artifact.
 */
async function openDevice(url: string, setup: RootfsPayloadSetup): Promise<RootfsPayload> {
  const { context, sshArgs = [] } = setup;
  const source = await openRemoteSource({
    url,
    source: setup.source,
    sshArguments: sshArgs,
    freeSpace: 'zero',
    freeze: true,
    limits: { maxFreezeMs: undefined, maxStallMs: MAX_STALL_MS },
    wire: 'auto',
    askPassword: (attempt) => sudoPassword(context, url, attempt),
    forbiddenPaths: writtenWhileFrozen(setup.outputPath),
    signal: context.signal,
  });
  return {
    plain: snapshotPayload(source, 'rootfs.ext4'),
    coded: undefined,
    isReadOnce: true,
    [Symbol.asyncDispose]: () => source[Symbol.asyncDispose](),
  };
}

/**
 * Opens what `-f` of `write rootfs-image` names: a file, an image of the library, or a device.
 *
 * @throws IngotError the failures of files, of the daemon and of ssh
 */
export async function openRootfsPayload(
  source: string,
  setup: RootfsPayloadSetup,
): Promise<RootfsPayload> {
  if (source.startsWith('ssh://')) return await openDevice(source, setup);
  if (isId('img', source)) return await openImage(source, setup);
  return {
    plain: await openRootfsFile(source),
    coded: undefined,
    isReadOnce: false,
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}
