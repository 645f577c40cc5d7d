import type { LibraryContext } from './library-context.ts';

const FOLDER = 'backups';
/** Older backups are removed when a new one is whole. */
const KEPT = 14;
const BACKUP = /^state-(\d{15})\.db$/;

/** Copies the state beside the library, whole and at one instant, while everybody goes on. */
export async function backupState({ catalogue, disk, clock }: LibraryContext): Promise<string> {
  await disk.makeFolder(FOLDER, 0o700);
  const now = clock.now();
  const path = `${FOLDER}/state-${String(now).padStart(15, '0')}.db`;
  // Of a process that ended over it: nobody else makes one now.
  const remains = (await disk.list(FOLDER)).filter((name) => name.endsWith('.db.new'));
  for (const name of remains) await disk.remove(`${FOLDER}/${name}`);
  await catalogue.backup(`${path}.new`);
  await disk.rename(`${path}.new`, path);
  await disk.syncFolder(FOLDER);
  for (const name of doomed(await disk.list(FOLDER), now)) await disk.remove(`${FOLDER}/${name}`);
  return path;
}

/** Oldest first; those of the future come from a clock that was wrong, and go before all others. */
function doomed(names: readonly string[], now: number): string[] {
  const all = names.filter((name) => BACKUP.test(name));
  const future = all.filter((name) => timeOf(name) > now);
  const past = all.filter((name) => timeOf(name) <= now);
  return [...future, ...past].slice(0, -KEPT);
}

function timeOf(name: string): number {
  return Number(BACKUP.exec(name)?.[1] ?? 0);
}
