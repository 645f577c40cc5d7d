import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, realpath, rename, rm, statfs } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { errnoOf, IngotError } from '../../base/index.ts';
import type { DumpTarget, WriteWatch } from '../dump-target.ts';

/** Names a target's errno as a failure. */
export function targetFailure(thrown: unknown, name: string): unknown {
  const errno = errnoOf(thrown);
  if (thrown instanceof IngotError || errno === undefined) return thrown;
  const options = { cause: thrown };
  switch (errno) {
    case 'ENOSPC':
    case 'EDQUOT':
    case 'EFBIG':
      return new IngotError('target-full', `${name} has no space left`, { errno }, options);
    case 'EPIPE':
    case 'ECONNRESET':
      return new IngotError('target-closed', `the reader of ${name} went away`, {}, options);
    case 'ENOENT':
    case 'ENOTDIR':
      return new IngotError('file-not-found', `${name} has no folder`, { errno }, options);
    default:
      return new IngotError(
        'target-unwritable',
        `${name} cannot be written: ${errno}`,
        { errno },
        options,
      );
  }
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** A file under a temporary name in its own folder; `commit` gives it its name. */
class FileTarget implements DumpTarget {
  readonly isSparse = true;
  readonly roomBytes: number;
  readonly #path: string;
  readonly #partial: string;
  readonly #handle: FileHandle;
  #at = 0;
  #isCommitted = false;

  constructor(setup: {
    readonly path: string;
    readonly partial: string;
    readonly handle: FileHandle;
    readonly roomBytes: number;
  }) {
    this.#path = setup.path;
    this.#partial = setup.partial;
    this.#handle = setup.handle;
    this.roomBytes = setup.roomBytes;
  }

  async write(bytes: Uint8Array, watch: WriteWatch): Promise<void> {
    watch.alive();
    try {
      for (let done = 0; done < bytes.length; ) {
        const { bytesWritten } = await this.#handle.write(
          bytes,
          done,
          bytes.length - done,
          this.#at,
        );
        done += bytesWritten;
        this.#at += bytesWritten;
        watch.wrote(bytesWritten);
      }
    } catch (thrown) {
      throw targetFailure(thrown, this.#path);
    }
  }

  skip(lengthBytes: number): Promise<void> {
    this.#at += lengthBytes;
    return Promise.resolve();
  }

  taken(): Promise<void> {
    return Promise.resolve();
  }

  async commit(): Promise<void> {
    try {
      await this.#handle.truncate(this.#at);
      await this.#handle.sync();
      await rename(this.#partial, this.#path);
      this.#isCommitted = true;
      await syncFolder(dirname(this.#path));
    } catch (thrown) {
      throw targetFailure(thrown, this.#path);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close();
    if (!this.#isCommitted) await rm(this.#partial, { force: true });
  }
}

/** A link is followed, so that what it points at is replaced and not the link. */
async function finalPath(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (thrown) {
    if (errnoOf(thrown) !== 'ENOENT') throw thrown;
    return join(await realpath(dirname(path)), basename(path));
  }
}

/**
 * Opens a file that gets its name only when it is whole and on disk.
 *
 * @throws IngotError `file-not-found` when the folder is missing, `target-unwritable`
 */
export async function openFileTarget(path: string): Promise<DumpTarget> {
  try {
    const final = await finalPath(path);
    const folder = dirname(final);
    const partial = join(folder, `.${basename(final)}.${randomBytes(6).toString('hex')}.partial`);
    const handle = await open(partial, 'wx');
    const { bavail, bsize } = await statfs(folder);
    return new FileTarget({ path: final, partial, handle, roomBytes: bavail * bsize });
  } catch (thrown) {
    throw targetFailure(thrown, path);
  }
}
