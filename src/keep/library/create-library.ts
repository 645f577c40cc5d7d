import { IngotError } from '../../base/index.ts';
import type { Disk } from '../chunks/disk.ts';
import { createLibraryKey, type LibraryKey } from './library-key.ts';
import { makeLibraryFolders } from './manifest-files.ts';

/**
 * Makes a library in an empty directory, or in one where its making was interrupted.
 *
 * @throws IngotError `library-unusable` when something else is there
 */
export async function createLibrary(disk: Disk): Promise<LibraryKey> {
  const names = await disk.list('.');
  // A half-made library has no marker: making one again over it is safe, over anything else not.
  const foreign = names.filter((name) => !OWN_NAMES.has(name));
  if (foreign.length > 0) {
    throw new IngotError(
      'library-unusable',
      `the data directory is no library, and not empty: it has ${foreign[0]}`,
    );
  }
  await makeLibraryFolders(disk);
  return await createLibraryKey(disk);
}

const OWN_NAMES = new Set([
  'incoming',
  'keys',
  'lock',
  'lost+found',
  'manifests',
  'packs',
  'ingot-library.json.new',
]);
