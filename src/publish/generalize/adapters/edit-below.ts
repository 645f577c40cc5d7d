import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  openSync,
  rmdirSync,
  unlinkSync,
} from 'node:fs';
import { formatName } from '../../image-files/file-name.ts';
import type { EditStep } from './mounted-edit-lines.ts';

const { O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_WRONLY } = constants;

/**
 * Carries out a step below a folder, and nowhere else.
 *
 * Every part of the path is opened from the one before it and must not be a link: whatever links an
 * image has, nothing outside of the folder is touched.
 *
 * @throws Error of the system (`ELOOP`, `ENOTDIR` for a link on the way), with the path
 */
export function editBelow(folder: string, { action, path }: EditStep): void {
  const names = namesOf(path);
  const last = names.pop();
  if (last === undefined) throw new Error('a step has no path');
  let directory = openSync(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  try {
    for (const name of names) {
      const next = openSync(inside(directory, name), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
      closeSync(directory);
      directory = next;
    }
    const target = inside(directory, last);
    if (action === 'remove') unlinkSync(target);
    else if (action === 'remove-directory') rmdirSync(target);
    else emptyFile(target);
  } catch (cause) {
    const words = cause instanceof Error ? cause.message.split(',')[0] : String(cause);
    throw Object.assign(new Error(`${formatName(path)}: ${words}`, { cause }), {
      code: (cause as NodeJS.ErrnoException).code,
    });
  } finally {
    closeSync(directory);
  }
}

/** Names a file by the descriptor of its directory, as openat(2) would. */
function inside(directory: number, name: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`/proc/self/fd/${directory}/`), name]);
}

function namesOf(path: Buffer): Buffer[] {
  const names = path
    .toString('latin1')
    .split('/')
    .filter((name) => name !== '');
  if (names.some((name) => name === '.' || name === '..')) throw new Error('a step leads upwards');
  return names.map((name) => Buffer.from(name, 'latin1'));
}

function emptyFile(path: Buffer): void {
  // A pipe that took the file's place must not hold us up.
  const file = openSync(path, O_WRONLY | O_NOFOLLOW | O_NONBLOCK);
  try {
    if (!fstatSync(file).isFile()) throw new Error('it is no file');
    ftruncateSync(file, 0);
  } finally {
    closeSync(file);
  }
}
