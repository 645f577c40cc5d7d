import { IngotError, isFailure } from '../../base/index.ts';
import type { Disk, DiskFile } from '../chunks/disk.ts';

/**
 * Stops all writing for good once the machine failed a write.
 *
 * After a failed fsync the kernel may have dropped the bytes and call the next fsync a success, so
 * nothing that was written may be believed: the library must be opened again and verified. A full
 * disk is no such failure; what was being written is thrown away then.
 */
export class StoppingDisk implements Disk {
  readonly #disk: Disk;
  #failure: IngotError | undefined;

  constructor(disk: Disk) {
    this.#disk = disk;
  }

  async create(path: string, mode?: number): Promise<DiskFile> {
    return await this.#write(async () => {
      const file = await this.#disk.create(path, mode);
      return {
        get sizeBytes() {
          return file.sizeBytes;
        },
        append: (buffers) => this.#write(() => file.append(buffers)),
        read: (offsetBytes, lengthBytes) => file.read(offsetBytes, lengthBytes),
        datasync: () => this.#write(() => file.datasync()),
        [Symbol.asyncDispose]: () => file[Symbol.asyncDispose](),
      };
    });
  }

  async open(path: string): Promise<DiskFile | undefined> {
    return await this.#disk.open(path);
  }

  async sizeOf(path: string): Promise<number | undefined> {
    return await this.#disk.sizeOf(path);
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#write(() => this.#disk.rename(from, to));
  }

  async remove(path: string): Promise<void> {
    await this.#write(() => this.#disk.remove(path));
  }

  async list(folder: string): Promise<string[]> {
    return await this.#disk.list(folder);
  }

  async makeFolder(path: string, mode?: number): Promise<void> {
    await this.#write(() => this.#disk.makeFolder(path, mode));
  }

  async syncFolder(folder: string): Promise<void> {
    await this.#write(() => this.#disk.syncFolder(folder));
  }

  async freeBytes(): Promise<number> {
    return await this.#disk.freeBytes();
  }

  async lock(path: string): Promise<AsyncDisposable> {
    return await this.#disk.lock(path);
  }

  async #write<T>(work: () => Promise<T>): Promise<T> {
    if (this.#failure !== undefined) {
      const { message } = this.#failure;
      throw new IngotError(
        'library-unusable',
        `the library has stopped writing: ${message}`,
        {},
        {
          cause: this.#failure,
        },
      );
    }
    try {
      return await work();
    } catch (error) {
      if (isFailure(error, 'library-unusable')) this.#failure ??= error;
      throw error;
    }
  }
}
