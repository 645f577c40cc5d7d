import { constants, createReadStream } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rm, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, type Id, IngotError, isId } from '../../base/index.ts';
import type { UploadFile, UploadSpool } from '../imports/upload-spool.ts';

const RECEIVED = 'received';
const READ_BYTES = 1024 * 1024;

/** Uploads in the folder `uploads/` of a data directory. */
export class DirectoryUploadSpool implements UploadSpool {
  readonly #folder: string;

  /** @param folder made when it is needed */
  constructor(folder: string) {
    this.#folder = folder;
  }

  async make(imageId: Id<'img'>): Promise<void> {
    const folder = this.folderOf(imageId);
    await asFailure(async () => {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      await using file = await open(this.fileOf(imageId), 'a', 0o600);
      await file.sync();
      for (const name of [folder, this.#folder]) {
        await using names = await open(name, constants.O_RDONLY | constants.O_DIRECTORY);
        await names.sync();
      }
    });
  }

  folderOf(imageId: Id<'img'>): string {
    return join(this.#folder, imageId);
  }

  fileOf(imageId: Id<'img'>): string {
    return join(this.folderOf(imageId), RECEIVED);
  }

  async sizeOf(imageId: Id<'img'>): Promise<number> {
    const found = await asFailure(() => ifThere(stat(this.fileOf(imageId))));
    return found?.size ?? 0;
  }

  async append(imageId: Id<'img'>): Promise<UploadFile> {
    return await asFailure(async () => {
      await using undo = new AsyncDisposableStack();
      const handle = undo.use(await open(this.fileOf(imageId), 'a', 0o600));
      const { size } = await handle.stat();
      undo.move();
      return new AppendedFile(handle, size);
    });
  }

  async truncate(imageId: Id<'img'>, sizeBytes: number): Promise<void> {
    await asFailure(() => ifThere(truncateForGood(this.fileOf(imageId), sizeBytes)));
  }

  read(imageId: Id<'img'>): AsyncIterable<Buffer> {
    return createReadStream(this.fileOf(imageId), { highWaterMark: READ_BYTES });
  }

  async remove(imageId: Id<'img'>): Promise<void> {
    await asFailure(() => rm(this.folderOf(imageId), { recursive: true, force: true }));
  }

  async sweep(imageIds: ReadonlySet<Id<'img'>>): Promise<void> {
    await asFailure(async () => {
      let failure: { readonly thrown: unknown } | undefined;
      for (const path of await this.#leftovers(imageIds)) {
        try {
          await rm(path, { recursive: true, force: true });
        } catch (thrown) {
          failure ??= { thrown };
        }
      }
      if (failure !== undefined) throw failure.thrown;
    });
  }

  async freeBytes(): Promise<number> {
    return await asFailure(async () => {
      await mkdir(this.#folder, { recursive: true, mode: 0o700 });
      const { bavail, bsize } = await statfs(this.#folder);
      return bavail * bsize;
    });
  }

  /** @returns folders of no import, and all but the received bytes in those of imports */
  async #leftovers(imageIds: ReadonlySet<Id<'img'>>): Promise<string[]> {
    const paths: string[] = [];
    for (const name of (await ifThere(readdir(this.#folder))) ?? []) {
      const folder = join(this.#folder, name);
      if (!isId('img', name) || !imageIds.has(name)) {
        paths.push(folder);
        continue;
      }
      for (const inside of await readdir(folder)) {
        if (inside !== RECEIVED) paths.push(join(folder, inside));
      }
    }
    return paths;
  }
}

class AppendedFile implements UploadFile {
  readonly #handle: FileHandle;
  #sizeBytes: number;

  constructor(handle: FileHandle, sizeBytes: number) {
    this.#handle = handle;
    this.#sizeBytes = sizeBytes;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  async append(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.byteLength; ) {
      const { bytesWritten } = await asFailure(() =>
        this.#handle.write(bytes, done, bytes.byteLength - done),
      );
      done += bytesWritten;
      this.#sizeBytes += bytesWritten;
    }
  }

  async datasync(): Promise<void> {
    await asFailure(() => this.#handle.datasync());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close();
  }
}

async function truncateForGood(path: string, sizeBytes: number): Promise<void> {
  await using file = await open(path, 'r+');
  await file.truncate(sizeBytes);
  // What was taken back must not return with a power cut: other bytes may be behind it by then.
  await file.sync();
}

/** @returns undefined for what is not there */
async function ifThere<T>(asking: Promise<T>): Promise<T | undefined> {
  try {
    return await asking;
  } catch (thrown) {
    if (errnoOf(thrown) === 'ENOENT') return undefined;
    throw thrown;
  }
}

async function asFailure<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    const errno = errnoOf(cause);
    if (errno === undefined) throw cause;
    if (errno === 'ENOSPC' || errno === 'EDQUOT') {
      throw new IngotError('library-full', 'the disk of the uploads is full', { errno }, { cause });
    }
    throw new IngotError('library-unusable', `the uploads: ${errno}`, { errno }, { cause });
  }
}
