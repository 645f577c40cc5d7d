import { IngotError, isId } from '../../../../base/index.ts';
import type { ArtifactPayload } from '../../../../publish/index.ts';
import type { CliContext } from '../../context.ts';
import { openRootfsFile } from './payload-file.ts';

/** What opening a payload may need. */
export interface RootfsPayloadSetup {
  readonly context: CliContext;
  readonly sshArgs?: readonly string[] | undefined;
}

/**
 * Opens what `-f` of `write rootfs-image` names: a file, an image of the library, or a device.
 *
 * @throws IngotError `source-unsupported` for img-… and ssh://…, which are not there yet, and the
 *   failures of files
 */
export function openRootfsPayload(
  source: string,
  _setup: RootfsPayloadSetup,
): Promise<ArtifactPayload> {
  if (isId('img', source)) {
    throw new IngotError(
      'source-unsupported',
      `${source}: images of the library cannot be named here yet; download it first`,
      { source },
    );
  }
  if (source.startsWith('ssh://')) {
    throw new IngotError(
      'source-unsupported',
      `${source}: devices cannot be named here yet; run ingot snapshot dump on the device`,
      { source },
    );
  }
  return openRootfsFile(source);
}
