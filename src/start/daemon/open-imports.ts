import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { isAnsweredByKernel } from '../../capture/adapters/mount-lookup.ts';
import { openReceivedFile } from '../../capture/adapters/open-image-file.ts';
import { DirectoryUploadSpool } from '../../keep/adapters/directory-upload-spool.ts';
import { fileSpools } from '../../keep/adapters/file-spool.ts';
import { openHttpFiles } from '../../keep/adapters/http-file.ts';
import { isPublicAddress } from '../../keep/adapters/public-address.ts';
import { openSocketHandover } from '../../keep/adapters/socket-handover.ts';
import type { DirectoryLibrary, Imports } from '../../keep/index.ts';
import type { ImportSettings } from '../settings/daemon-settings.ts';
import { heldOutput } from './held-output.ts';

/** Imports that one account may have at once, besides those that are over. */
const PER_ACCOUNT = 16;

/**
 * Begins to take uploads in the data directory's `uploads/`.
 *
 * @throws IngotError `library-unusable`
 */
export async function openImports(
  library: DirectoryLibrary,
  folder: string,
  settings: ImportSettings,
): Promise<Imports> {
  const uploads = join(folder, 'uploads');
  await mkdir(uploads, { recursive: true, mode: 0o700 });
  return await library.openImports({
    spool: new DirectoryUploadSpool(uploads),
    openSource: (file) =>
      openReceivedFile(file.path, {
        name: file.name,
        freeSpace: file.freeSpace,
        spoolFolder: file.folder,
        signal: file.signal,
        maxDiskBytes: file.maxDiskBytes,
        keepFreeBytes: file.keepFreeBytes,
        onProgress: file.onProgress,
        format: file.format,
      }),
    openHandover: (key) =>
      openSocketHandover(key, {
        holdOutput: (descriptors, name) => heldOutput(descriptors, { name, dataFolder: folder }),
        isAnsweredByKernel: (fd) => isAnsweredByKernel(fd),
      }),
    openSpool: fileSpools(uploads),
    openUrl: openHttpFiles({
      mayConnectTo: settings.mayFetchPrivate ? () => true : isPublicAddress,
    }),
    limits: {
      uploadBytes: settings.maxUploadBytes,
      imageBytes: settings.maxImageBytes,
      diskReserveBytes: settings.diskReserveBytes,
      perAccount: PER_ACCOUNT,
      expiryMs: settings.uploadExpiryMs,
    },
  });
}
