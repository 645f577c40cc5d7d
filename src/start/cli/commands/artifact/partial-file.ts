import { constants } from 'node:fs';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errnoOf, MIB } from '../../../../base/index.ts';
import { targetFailure } from '../../../../capture/adapters/target-failure.ts';
import { writeAll } from '../../../../capture/adapters/write-all.ts';
import type { ArtifactTarget, FilePlace } from '../../../../publish/index.ts';
import { BlockWriter } from './block-writer.ts';

/** Where an artifact is written: whole or not at all, where that is possible. */
export interface OutputFile extends ArtifactTarget, AsyncDisposable {
  /** For people. */
  readonly name: string;
  /** Makes the file durable and gives it its name. */
  commit(): Promise<void>;
}

/** Loaded for artifacts of some size: a small one needs no native call. */
const libc = () => import('../../../../capture/adapters/libc.ts');

async function syncFolder(path: string): Promise<void> {
  await using folder = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  await folder.sync();
}

/** What filesystems say that keep no space for anybody. */
const NO_RESERVING = ['EOPNOTSUPP', 'ENOSYS', 'EINVAL'];

/** Less than this is written before anybody else could begin. */
const APART_BYTES = 4 * MIB;

/** A file under a temporary name beside the final one; it appears under its own when it is whole. */
export class PartialFile implements OutputFile {
  readonly name: string;
  readonly #partial: string;
  readonly #handle: FileHandle;
  readonly #blocks: BlockWriter;
  #reservedBytes = 0;
  #isCommitted = false;

  constructor(name: string, partial: string, handle: FileHandle) {
    this.name = name;
    this.#partial = partial;
    this.#handle = handle;
    this.#blocks = new BlockWriter(handle);
  }

  async write(bytes: Uint8Array): Promise<void> {
    try {
      await this.#blocks.write(bytes);
    } catch (thrown) {
      throw targetFailure(thrown, this.name);
    }
  }

  readonly patch = async (bytes: Uint8Array): Promise<void> => {
    try {
      await this.#blocks.flush();
      await writeAll(this.#handle, bytes, 0);
    } catch (thrown) {
      throw targetFailure(thrown, this.name);
    }
  };

  async reserve(sizeBytes: number): Promise<void> {
    const { reserveSpace } = await libc();
    try {
      await reserveSpace(this.#handle.fd, sizeBytes);
      this.#reservedBytes = sizeBytes;
    } catch (thrown) {
      if (!NO_RESERVING.includes(errnoOf(thrown) ?? '')) throw targetFailure(thrown, this.name);
    }
  }

  async writeApart(
    lengthBytes: number,
    write: (place: FilePlace) => Promise<boolean>,
  ): Promise<boolean> {
    // Whoever writes finds the space there: it could be somebody who may use more than this user.
    if (this.#reservedBytes === 0 || lengthBytes < APART_BYTES) return false;
    const { openPastCache } = await import('../../../../capture/adapters/direct-writer.ts');
    await using direct = await openPastCache(this.#handle);
    if (direct === undefined) return false;
    try {
      await this.#blocks.flush();
    } catch (thrown) {
      throw targetFailure(thrown, this.name);
    }
    const isWritten = await write({
      name: this.name,
      buffered: this.#handle.fd,
      direct: direct.fd,
      offsetBytes: this.#blocks.sizeBytes,
    });
    if (isWritten) this.#blocks.skip(lengthBytes);
    return isWritten;
  }

  async commit(): Promise<void> {
    try {
      await this.#blocks.flush();
      const { sizeBytes } = this.#blocks;
      if (this.#reservedBytes > sizeBytes) await this.#handle.truncate(sizeBytes);
      await this.#handle.sync();
      await rename(this.#partial, this.name);
      this.#isCommitted = true;
      await syncFolder(dirname(this.name));
    } catch (thrown) {
      throw targetFailure(thrown, this.name);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#blocks[Symbol.asyncDispose]();
    await this.#handle.close();
    if (!this.#isCommitted) await rm(this.#partial, { force: true });
  }
}
