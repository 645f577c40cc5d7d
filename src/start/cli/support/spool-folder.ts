import { accessSync, constants, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { IngotError } from '../../../base/index.ts';

/** A small memory filesystem that Linux has; the last resort, for little spools only. */
const MEMORY_FOLDERS = ['/run', '/dev/shm'];

/**
 * Chooses where a capture may put what it cannot hold in memory: a folder that is not on the
 * captured filesystem, for a write to what is frozen would never end.
 *
 * @param named `--spool`, which is taken as it is
 * @param source the captured path; undefined where nothing is frozen
 * @throws IngotError `target-would-freeze` when every folder is on the captured filesystem
 */
export function spoolFolder(named: string | undefined, source: string | undefined): string {
  if (named !== undefined) return named;
  if (source === undefined) return tmpdir();
  const captured = deviceOf(source);
  const found = [tmpdir(), ...MEMORY_FOLDERS].find((folder) => {
    const device = deviceOf(folder);
    return device !== undefined && device !== captured && isWritable(folder);
  });
  if (found !== undefined) return found;
  throw new IngotError(
    'target-would-freeze',
    `every folder for temporary files is on the filesystem of ${source}; name another with --spool`,
    { source },
  );
}

function deviceOf(path: string): number | undefined {
  const found = statSync(path, { throwIfNoEntry: false });
  return found?.isBlockDevice() === true ? found.rdev : found?.dev;
}

function isWritable(folder: string): boolean {
  try {
    accessSync(folder, constants.W_OK);
    return true;
  } catch {
    // Whatever the reason, another folder is tried.
    return false;
  }
}
