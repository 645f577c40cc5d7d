import type { Stats } from 'node:fs';
import { stat } from 'node:fs/promises';
import { isId } from '../../../../base/index.ts';
import { openPipe, openRootfsFile } from './payload-file.ts';
import type { RootfsPayload, RootfsPayloadSetup } from './rootfs-source.ts';

async function statusOf(path: string): Promise<Stats | undefined> {
  // What cannot be looked at cannot be read either, and that failure says more.
  return await stat(path).catch(() => undefined);
}

/**
 * Opens what `-f` of `write rootfs-image` names: a file, a pipe, an image of the library, a device
 * over ssh, or what is mounted here.
 *
 * @throws IngotError the failures of files, of the daemon, of ssh and of captures
 */
export async function openRootfsPayload(
  source: string,
  setup: RootfsPayloadSetup,
): Promise<RootfsPayload> {
  // Each way is loaded when it is gone: an image of the library needs no capture, and no engine.
  if (source.startsWith('ssh://')) {
    const { openRemoteDevice } = await import('./device-payload.ts');
    return await openRemoteDevice(source, setup);
  }
  if (isId('img', source)) {
    const { openImage } = await import('./library-payload.ts');
    return await openImage(source, setup);
  }
  const status = source === '-' ? undefined : await statusOf(source);
  if (status?.isDirectory() === true || status?.isBlockDevice() === true) {
    const { openMounted } = await import('./device-payload.ts');
    const mounted = await openMounted(source, status, setup);
    if (mounted !== undefined) return mounted;
  }
  const isPipe = source === '-' || status?.isFIFO() === true || status?.isSocket() === true;
  return {
    plain: isPipe
      ? openPipe(source, setup.context.stdin as AsyncIterable<Buffer>)
      : await openRootfsFile(source),
    coded: undefined,
    isReadOnce: isPipe,
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}
