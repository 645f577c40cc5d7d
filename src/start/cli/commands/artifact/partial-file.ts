import { constants } from 'node:fs';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errnoOf } from '../../../../base/index.ts';
import { targetFailure } from '../../../../capture/adapters/target-failure.ts';
import type { ArtifactTarget } from '../../../../publish/index.ts';

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

/** Writes all of `bytes`, at `position` or where the file's own position is. */
export async function writeAll(handle: FileHandle, bytes: Uint8Array, position: number | null) {
  for (let done = 0; done < bytes.byteLength; ) {
    const at = position === null ? null : position + done;
    const { bytesWritten } = await handle.write(bytes, done, bytes.byteLength - done, at);
    done += bytesWritten;
  }
}

/** Small pieces are gathered up to this. */
const GATHER_BYTES = 1024 * 1024;
/**
 * So much is handed to the disk at once: 305 MB are durable after 0.15 s, and after 0.28 s when the
 * kernel begins in its own time.
 */
const WRITEBACK_BYTES = 4 * 1024 * 1024;
/** What filesystems say that keep no space for anybody. */
const NO_RESERVING = ['EOPNOTSUPP', 'ENOSYS', 'EINVAL'];
/** Larger ones are written as they are. */
const LARGE_BYTES = 256 * 1024;

/** A file under a temporary name beside the final one; it appears under its own when it is whole. */
export class PartialFile implements OutputFile {
  readonly name: string;
  readonly #partial: string;
  readonly #handle: FileHandle;
  /** Where the next write goes to. */
  #at = 0;
  #gathered: Buffer | undefined;
  #gatheredBytes = 0;
  /** The block that is being written, and when it is. */
  #other: Buffer | undefined;
  #writing: Promise<void> = Promise.resolve();
  /** Up to where it is written, and up to where the disk was told. */
  #writtenBytes = 0;
  #handedBytes = 0;
  #handing: Promise<void> | undefined;
  #reservedBytes = 0;
  #isCommitted = false;

  constructor(name: string, partial: string, handle: FileHandle) {
    this.name = name;
    this.#partial = partial;
    this.#handle = handle;
  }

  async write(bytes: Uint8Array): Promise<void> {
    if (bytes.byteLength >= LARGE_BYTES) {
      await this.#flush();
      this.#begin(bytes);
      await this.#writing;
      return;
    }
    for (let from = 0; from < bytes.byteLength; ) {
      this.#gathered ??= Buffer.allocUnsafeSlow(GATHER_BYTES);
      const length = Math.min(bytes.byteLength - from, GATHER_BYTES - this.#gatheredBytes);
      this.#gathered.set(bytes.subarray(from, from + length), this.#gatheredBytes);
      this.#gatheredBytes += length;
      from += length;
      if (this.#gatheredBytes === GATHER_BYTES) await this.#turn();
    }
  }

  readonly patch = async (bytes: Uint8Array): Promise<void> => {
    await this.#flush();
    try {
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

  async commit(): Promise<void> {
    await this.#flush();
    try {
      await this.#handing;
      if (this.#reservedBytes > this.#at) await this.#handle.truncate(this.#at);
      await this.#handle.sync();
      await rename(this.#partial, this.name);
      this.#isCommitted = true;
      await syncFolder(dirname(this.name));
    } catch (thrown) {
      throw targetFailure(thrown, this.name);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled([this.#writing, this.#handing]);
    await this.#handle.close();
    if (!this.#isCommitted) await rm(this.#partial, { force: true });
  }

  async #flush(): Promise<void> {
    if (this.#gatheredBytes > 0) await this.#turn();
    await this.#writing;
  }

  /** Begins to write what was gathered; the next is gathered meanwhile. */
  async #turn(): Promise<void> {
    await this.#writing;
    const block = this.#gathered ?? Buffer.alloc(0);
    this.#begin(block.subarray(0, this.#gatheredBytes));
    this.#gathered = this.#other;
    this.#other = block;
    this.#gatheredBytes = 0;
  }

  #begin(bytes: Uint8Array): void {
    const at = this.#at;
    this.#at += bytes.byteLength;
    this.#writing = writeAll(this.#handle, bytes, at).then(
      () => this.#wrote(at + bytes.byteLength),
      (thrown: unknown) => {
        throw targetFailure(thrown, this.name);
      },
    );
    // Whoever writes next, or commits, hears of it.
    this.#writing.catch(() => undefined);
  }

  /** Has the disk at work meanwhile, so that the commit has little left to wait for. */
  #wrote(upToByte: number): void {
    this.#writtenBytes = upToByte;
    if (upToByte - this.#handedBytes < WRITEBACK_BYTES) return;
    this.#handing ??= this.#hand().finally(() => {
      this.#handing = undefined;
    });
  }

  /** Hands over what there is, until there is little; never fails. */
  async #hand(): Promise<void> {
    const { startWriteback } = await libc();
    while (this.#writtenBytes - this.#handedBytes >= WRITEBACK_BYTES) {
      const from = this.#handedBytes;
      this.#handedBytes = this.#writtenBytes;
      await startWriteback(this.#handle.fd, from, this.#handedBytes - from);
    }
  }
}
