import type { LibraryContext } from './library-context.ts';

const FOLDER = 'backups';
/** Older backups are removed when a new one is whole. */
const KEPT = 14;
const BACKUP = /^state-(\d{15})\.db$/;

/** Copies the state beside the library, whole and at one instant, while everybody goes on. */
export async function backupState({ catalogue, disk, clock }: LibraryContext): Promise<string> {
  await disk.makeFolder(FOLDER, 0o700);
  const time = String(clock.now()).padStart(15, '0');
  const path = `${FOLDER}/state-${time}.db`;
  await disk.remove(`${path}.new`);
  await catalogue.backup(`${path}.new`);
  await disk.rename(`${path}.new`, path);
  await disk.syncFolder(FOLDER);
  const names = (await disk.list(FOLDER)).filter((name) => BACKUP.test(name));
  for (const name of names.slice(0, -KEPT)) await disk.remove(`${FOLDER}/${name}`);
  return path;
}
