import { constants } from 'node:fs';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { IngotError } from '../../base/index.ts';
import type { MirrorSpool } from '../remote/spool-records.ts';
import { lockFile } from './libc.ts';
import { targetFailure } from './target-failure.ts';

/** A spool with a name, which a pull that broke off leaves to the next one. */
class PullFile implements MirrorSpool {
  readonly sizeBytes: number;
  readonly #path: string;
  readonly #handle: FileHandle;
  #endBytes: number;

  constructor(path: string, handle: FileHandle, sizeBytes: number) {
    this.#path = path;
    this.#handle = handle;
    this.sizeBytes = sizeBytes;
    this.#endBytes = sizeBytes;
  }

  async append(bytes: Uint8Array): Promise<void> {
    try {
      for (let done = 0; done < bytes.length; ) {
        const left = bytes.length - done;
        const { bytesWritten } = await this.#handle.write(bytes, done, left, this.#endBytes);
        done += bytesWritten;
        this.#endBytes += bytesWritten;
      }
    } catch (thrown) {
      throw targetFailure(thrown, this.#path);
    }
  }

  async read(offsetBytes: number, lengthBytes: number): Promise<Buffer> {
    const bytes = Buffer.allocUnsafeSlow(lengthBytes);
    for (let done = 0; done < lengthBytes; ) {
      const left = lengthBytes - done;
      const { bytesRead } = await this.#handle.read(bytes, done, left, offsetBytes + done);
      if (bytesRead === 0) throw new RangeError(`${this.#path} has no byte ${offsetBytes + done}`);
      done += bytesRead;
    }
    return bytes;
  }

  async truncate(sizeBytes: number): Promise<void> {
    await this.#handle.truncate(sizeBytes);
    this.#endBytes = sizeBytes;
  }

  async remove(): Promise<void> {
    await rm(this.#path, { force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close();
  }
}

/**
 * Opens the file of a pull that may be gone on with, or makes it; nobody else may read it.
 *
 * @throws IngotError `target-in-use` while another pull uses it, `target-unwritable`
 */
export async function openPullFile(path: string): Promise<MirrorSpool> {
  let handle: FileHandle;
  try {
    const { O_RDWR, O_CREAT, O_NOFOLLOW, O_NONBLOCK } = constants;
    handle = await open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0o600);
  } catch (thrown) {
    throw targetFailure(thrown, path);
  }
  try {
    const status = await handle.stat();
    if (!status.isFile()) throw new IngotError('target-unwritable', `${path} is no file`);
    if (!lockFile(handle.fd)) {
      throw new IngotError('target-in-use', `another pull uses ${path}`, { path });
    }
    return new PullFile(path, handle, status.size);
  } catch (thrown) {
    await handle.close();
    throw thrown;
  }
}
