import type { DiskReader } from '../disk-reader.ts';
import type { Mirror } from './mirror.ts';
import type { RemoteReader } from './remote-reader.ts';

/** A remote device whose bytes come out of a mirror as soon as that is known to be right. */
export class MirroredReader implements DiskReader {
  readonly sizeBytes: number;
  readonly sectorBytes: number | undefined;
  readonly #remote: RemoteReader;
  readonly #mirror: Mirror;
  #isFrozen = false;
  #isTrusted = false;

  constructor(remote: RemoteReader, mirror: Mirror) {
    this.sizeBytes = remote.sizeBytes;
    this.sectorBytes = remote.sectorBytes;
    this.#remote = remote;
    this.#mirror = mirror;
  }

  /** Tells that the next `dropStale` comes after the freeze: from then on nothing changes. */
  willFreeze(): void {
    this.#isFrozen = true;
  }

  async read(offsetBytes: number, lengthBytes: number): Promise<Buffer> {
    if (!this.#isTrusted) return await this.#remote.read(offsetBytes, lengthBytes);
    const bytes = Buffer.allocUnsafe(lengthBytes);
    await this.readInto(offsetBytes, bytes);
    return bytes;
  }

  async readInto(offsetBytes: number, target: Buffer): Promise<void> {
    if (this.#isTrusted && (await this.#mirror.readInto(offsetBytes, target))) return;
    await this.#remote.readInto(offsetBytes, target);
  }

  async dropStale(): Promise<void> {
    await this.#remote.dropStale();
    if (!this.#isFrozen) return;
    await this.#mirror.refresh();
    this.#isTrusted = true;
  }

  /** The session and the spool have their own owners. */
  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve();
  }
}
