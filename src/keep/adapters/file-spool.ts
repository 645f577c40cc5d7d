import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, IngotError } from '../../base/index.ts';
import type { OpenSpool, Spool } from '../ingest/spool.ts';

/** A spool as a file that has no name any more, so that it is gone with its process. */
class FileSpool implements Spool {
  readonly #file: FileHandle;
  readonly #directory: string;
  #sizeBytes = 0;

  constructor(file: FileHandle, directory: string) {
    this.#file = file;
    this.#directory = directory;
  }

  async append(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.byteLength; ) {
      done += await this.#write(bytes.subarray(done));
    }
  }

  async read(offsetBytes: number, lengthBytes: number): Promise<Buffer> {
    const bytes = Buffer.allocUnsafeSlow(lengthBytes);
    for (let done = 0; done < lengthBytes; ) {
      const { bytesRead } = await this.#file.read(
        bytes,
        done,
        lengthBytes - done,
        offsetBytes + done,
      );
      if (bytesRead === 0) {
        throw new RangeError(`bytes ${offsetBytes} to ${offsetBytes + lengthBytes} of a spool`);
      }
      done += bytesRead;
    }
    return bytes;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }

  async #write(bytes: Uint8Array): Promise<number> {
    try {
      const { bytesWritten } = await this.#file.write(bytes, 0, bytes.byteLength, this.#sizeBytes);
      this.#sizeBytes += bytesWritten;
      return bytesWritten;
    } catch (thrown) {
      const errno = errnoOf(thrown);
      if (errno !== 'ENOSPC' && errno !== 'EDQUOT') throw thrown;
      throw new IngotError(
        'target-full',
        `the spool in ${this.#directory} is full after ${this.#sizeBytes} bytes`,
        { directory: this.#directory, sizeBytes: this.#sizeBytes },
        { cause: thrown },
      );
    }
  }
}

/**
 * Opens spools in a directory.
 *
 * @param directory on a filesystem that is not captured; the caller sees to that
 */
export function fileSpools(directory: string): OpenSpool {
  return async () => {
    const path = join(directory, `.ingot-spool-${randomBytes(8).toString('hex')}`);
    const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL;
    const file = await open(path, flags, 0o600);
    try {
      await unlink(path);
    } catch (thrown) {
      await file.close();
      throw thrown;
    }
    return new FileSpool(file, directory);
  };
}
