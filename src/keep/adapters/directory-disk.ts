import { constants } from 'node:fs';
import {
  type FileHandle,
  mkdir,
  open,
  readdir,
  rename,
  stat,
  statfs,
  unlink,
} from 'node:fs/promises';
import { join } from 'node:path';
import koffi from 'koffi';
import { errnoOf, IngotError } from '../../base/index.ts';
import type { Disk, DiskFile } from '../chunks/disk.ts';

/** `flock(2)`: exclusive, and answer at once instead of waiting. */
const LOCK_EX_NB = 2 | 4;
/** The most buffers that one writev takes (IOV_MAX of Linux). */
const MAX_BUFFERS = 1024;

const flock = koffi.load(null).func('int flock(int fd, int operation)');

/** The data directory on a local filesystem. */
export class DirectoryDisk implements Disk {
  readonly #root: string;

  /** @param root the data directory; it must exist */
  constructor(root: string) {
    this.#root = root;
  }

  async create(path: string, mode = 0o644): Promise<DiskFile> {
    return await translated(`creating ${path}`, async () => {
      const handle = await open(join(this.#root, path), 'wx', mode);
      return new DirectoryDiskFile(handle, path, 0);
    });
  }

  async open(path: string): Promise<DiskFile | undefined> {
    return await translated(`opening ${path}`, async () => {
      const handle = await openOrAbsent(join(this.#root, path));
      if (handle === undefined) return undefined;
      try {
        return new DirectoryDiskFile(handle, path, (await handle.stat()).size);
      } catch (error) {
        await handle.close();
        throw error;
      }
    });
  }

  async sizeOf(path: string): Promise<number | undefined> {
    return await translated(`looking at ${path}`, async () => {
      try {
        return (await stat(join(this.#root, path))).size;
      } catch (error) {
        if (errnoOf(error) === 'ENOENT') return undefined;
        throw error;
      }
    });
  }

  async rename(from: string, to: string): Promise<void> {
    await translated(`renaming ${from}`, () =>
      rename(join(this.#root, from), join(this.#root, to)),
    );
  }

  async remove(path: string): Promise<void> {
    await translated(`removing ${path}`, async () => {
      try {
        await unlink(join(this.#root, path));
      } catch (error) {
        if (errnoOf(error) !== 'ENOENT') throw error;
      }
    });
  }

  async list(folder: string): Promise<string[]> {
    return await translated(`listing ${folder}`, async () =>
      (await readdir(join(this.#root, folder))).sort(),
    );
  }

  async makeFolder(path: string, mode = 0o755): Promise<void> {
    await translated(`making ${path}`, async () => {
      await mkdir(join(this.#root, path), { recursive: true, mode });
    });
  }

  async syncFolder(folder: string): Promise<void> {
    await translated(`syncing ${folder}`, async () => {
      const handle = await open(
        join(this.#root, folder),
        constants.O_RDONLY | constants.O_DIRECTORY,
      );
      try {
        await handle.sync();
      } finally {
        await handle.close();
      }
    });
  }

  async freeBytes(): Promise<number> {
    return await translated('looking at free space', async () => {
      const { bavail, bsize } = await statfs(this.#root);
      return bavail * bsize;
    });
  }

  async lock(path: string): Promise<AsyncDisposable> {
    const handle = await translated(`locking ${path}`, () =>
      open(join(this.#root, path), 'a', 0o644),
    );
    // The kernel drops the lock with the last descriptor: a killed process leaves none behind.
    if (flock(handle.fd, LOCK_EX_NB) !== 0) {
      await handle.close();
      throw new IngotError(
        'library-busy',
        `another process has the library in ${this.#root} open`,
        { folder: this.#root },
      );
    }
    let isOpen = true;
    return {
      async [Symbol.asyncDispose]() {
        if (!isOpen) return;
        isOpen = false;
        await handle.close();
      },
    };
  }
}

class DirectoryDiskFile implements DiskFile {
  readonly #handle: FileHandle;
  readonly #path: string;
  #sizeBytes: number;
  #isOpen = true;

  constructor(handle: FileHandle, path: string, sizeBytes: number) {
    this.#handle = handle;
    this.#path = path;
    this.#sizeBytes = sizeBytes;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  async append(buffers: readonly Uint8Array[]): Promise<void> {
    await translated(`writing ${this.#path}`, async () => {
      let rest = buffers.filter((buffer) => buffer.length > 0);
      while (rest.length > 0) {
        const some = rest.slice(0, MAX_BUFFERS);
        const { bytesWritten } = await this.#handle.writev(some, this.#sizeBytes);
        if (bytesWritten === 0) {
          throw new IngotError('library-unusable', `writing ${this.#path} wrote nothing`);
        }
        this.#sizeBytes += bytesWritten;
        rest = [...after(some, bytesWritten), ...rest.slice(some.length)];
      }
    });
  }

  async read(offsetBytes: number, lengthBytes: number, memory?: Buffer): Promise<Buffer> {
    return await translated(`reading ${this.#path}`, async () => {
      const thereBytes = Math.max(0, Math.min(lengthBytes, this.#sizeBytes - offsetBytes));
      const buffer =
        memory !== undefined && memory.length >= thereBytes
          ? memory.subarray(0, thereBytes)
          : Buffer.allocUnsafe(thereBytes);
      let filled = 0;
      while (filled < buffer.length) {
        const { bytesRead } = await this.#handle.read(
          buffer,
          filled,
          buffer.length - filled,
          offsetBytes + filled,
        );
        if (bytesRead === 0) break;
        filled += bytesRead;
      }
      return buffer.subarray(0, filled);
    });
  }

  async datasync(): Promise<void> {
    await translated(`syncing ${this.#path}`, () => this.#handle.datasync());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    await this.#handle.close();
  }
}

/** @returns what of `buffers` is left behind the first `count` bytes */
function after(buffers: readonly Uint8Array[], count: number): Uint8Array[] {
  let skip = count;
  const rest: Uint8Array[] = [];
  for (const buffer of buffers) {
    if (skip >= buffer.length) skip -= buffer.length;
    else {
      rest.push(buffer.subarray(skip));
      skip = 0;
    }
  }
  return rest;
}

async function openOrAbsent(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

async function translated<T>(doing: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (cause instanceof IngotError) throw cause;
    const errno = errnoOf(cause);
    if (errno === undefined) throw cause;
    const isFull = errno === 'ENOSPC' || errno === 'EDQUOT' || errno === 'EFBIG';
    throw new IngotError(
      isFull ? 'library-full' : 'library-unusable',
      `${doing} ended with ${errno}`,
      { errno },
      { cause },
    );
  }
}
