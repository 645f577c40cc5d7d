import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import {
  type FileHandle,
  lstat,
  open,
  opendir,
  realpath,
  rename,
  rm,
  statfs,
} from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { isatty } from 'node:tty';
import { errnoOf, IngotError } from '../../base/index.ts';
import type { DumpTarget, WriteWatch } from '../dump-target.ts';
import { openDescriptorTarget } from './descriptor-target.ts';
import { DirectWriter } from './direct-writer.ts';
import { createOwnedFile, removeIfAbandoned } from './owned-file.ts';
import { PositionedFile } from './positioned-file.ts';
import { targetFailure } from './target-failure.ts';
import { writeAll } from './write-all.ts';

const RANDOM_BYTES = 6;
const PARTIAL_END = '.ingot-partial';
/** The name of a partial file: hidden, with twelve hexadecimal digits. */
const LEFTOVER = /^\..+\.[0-9a-f]{12}\.ingot-partial$/s;

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
  readonly positioned: PositionedFile;
  readonly #path: string;
  readonly #partial: string;
  readonly #handle: FileHandle;
  readonly #direct: DirectWriter | undefined;
  #at = 0;
  #isCommitted = false;

  constructor(setup: {
    readonly path: string;
    readonly partial: string;
    readonly handle: FileHandle;
    readonly direct: DirectWriter | undefined;
    readonly roomBytes: number;
  }) {
    this.#path = setup.path;
    this.#partial = setup.partial;
    this.#handle = setup.handle;
    this.#direct = setup.direct;
    this.roomBytes = setup.roomBytes;
    this.positioned = new PositionedFile({
      fd: setup.handle.fd,
      label: setup.path,
      isFile: true,
      startBytes: 0,
      onBegin: (sizeBytes) => {
        this.#at = sizeBytes;
      },
    });
  }

  async write(bytes: Uint8Array, watch: WriteWatch): Promise<void> {
    watch.alive();
    try {
      if (this.#direct === undefined) await writeAll(this.#handle, bytes, this.#at);
      else await this.#direct.write(bytes, this.#at);
    } catch (thrown) {
      throw targetFailure(thrown, this.#path);
    }
    this.#at += bytes.length;
    watch.wrote(bytes.length);
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
      await this.#direct?.flush();
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
    await this.#direct?.[Symbol.asyncDispose]();
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

/** Removes the partial files of dumps that were killed. */
async function removeLeftovers(folder: string): Promise<void> {
  for await (const { name } of await opendir(folder)) {
    if (!LEFTOVER.test(name)) continue;
    const path = join(folder, name);
    await removeIfAbandoned(path, () => rm(path, { force: true }));
  }
}

/** What stands at a path that is no regular file, or undefined. */
async function specialAt(path: string): Promise<'device' | 'pipe' | 'folder' | undefined> {
  let stat: Awaited<ReturnType<typeof lstat>>;
  try {
    stat = await lstat(path);
  } catch (thrown) {
    if (errnoOf(thrown) === 'ENOENT') return undefined;
    throw thrown;
  }
  if (stat.isFile()) return undefined;
  if (stat.isBlockDevice()) return 'device';
  return stat.isDirectory() ? 'folder' : 'pipe';
}

/** Opens a block device or a pipe by name; it is closed with its target. */
async function openSpecial(path: string, kind: 'device' | 'pipe'): Promise<DumpTarget> {
  // O_EXCL on a block device: refused with EBUSY while it is mounted or otherwise in use.
  const exclusive = kind === 'device' ? constants.O_EXCL : 0;
  const handle = await open(path, constants.O_WRONLY | exclusive);
  const target = openDescriptorTarget(handle.fd, isatty(handle.fd));
  const owned = new AsyncDisposableStack();
  owned.defer(() => handle.close());
  owned.use(target);
  return {
    isSparse: target.isSparse,
    roomBytes: target.roomBytes,
    positioned: target.positioned,
    write: (bytes, watch) => target.write(bytes, watch),
    skip: (lengthBytes) => target.skip(lengthBytes),
    taken: (watch) => target.taken(watch),
    commit: () => target.commit(),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/**
 * Opens a file that gets its name only when it is whole and on disk; a block device or a pipe is
 * written as it is.
 *
 * @throws IngotError `file-not-found` when the folder is missing, `target-unwritable`,
 *   `target-in-use` for a device that is mounted, `target-is-terminal`
 */
export async function openFileTarget(path: string): Promise<DumpTarget> {
  try {
    const final = await finalPath(path);
    const special = await specialAt(final);
    if (special === 'folder') throw new IngotError('target-unwritable', `${path} is a folder`);
    if (special !== undefined) return await openSpecial(final, special);
    const folder = dirname(final);
    await removeLeftovers(folder);
    const { path: partial, handle } = await createOwnedFile(async () => {
      const random = randomBytes(RANDOM_BYTES).toString('hex');
      return join(folder, `.${basename(final)}.${random}${PARTIAL_END}`);
    });
    const { bavail, bsize } = await statfs(folder);
    const direct = await DirectWriter.open(handle);
    return new FileTarget({ path: final, partial, handle, direct, roomBytes: bavail * bsize });
  } catch (thrown) {
    throw targetFailure(thrown, path);
  }
}
