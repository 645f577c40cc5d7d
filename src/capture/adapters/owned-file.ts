import { constants } from 'node:fs';
import { type FileHandle, lstat, open } from 'node:fs/promises';
import { errnoOf } from '../../base/index.ts';
import { lockFile } from './libc.ts';

/** Tries before a folder counts as one in which somebody removes everything. */
const MAX_TRIES = 5;

/** Whether a path still leads to an open file. */
async function isStillAt(path: string, handle: FileHandle): Promise<boolean> {
  try {
    const [there, here] = await Promise.all([lstat(path), handle.stat()]);
    return there.ino === here.ino && there.dev === here.dev;
  } catch (thrown) {
    if (errnoOf(thrown) === 'ENOENT') return false;
    throw thrown;
  }
}

/**
 * Makes a file whose lock tells that its owner lives: it ends with the process, however that dies.
 *
 * @param nextPath gives another name at each call
 * @throws the errors of open(2), `EEXIST` among them
 */
export async function createOwnedFile(
  nextPath: () => Promise<string>,
): Promise<{ readonly path: string; readonly handle: FileHandle }> {
  for (let tries = 1; ; tries++) {
    const path = await nextPath();
    const handle = await open(path, 'wx');
    // Whoever clears up may find it before it is locked; then another one is made.
    if (lockFile(handle.fd) && (await isStillAt(path, handle))) return { path, handle };
    await handle.close();
    if (tries === MAX_TRIES) throw new Error(`${path} was removed by somebody else`);
  }
}

/**
 * Removes what a file stands for, if its owner is gone.
 *
 * @param path made by {@link createOwnedFile}; what cannot be opened is left alone
 */
export async function removeIfAbandoned(path: string, remove: () => Promise<void>): Promise<void> {
  try {
    const handle = await open(path, constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      const isLeft = (await handle.stat()).isFile() && lockFile(handle.fd);
      if (isLeft && (await isStillAt(path, handle))) await remove();
    } finally {
      await handle.close();
    }
  } catch (thrown) {
    // Somebody else's, or gone meanwhile: clearing up is a favour, no failure.
    if (errnoOf(thrown) === undefined) throw thrown;
  }
}
