import { IngotError, MIB } from '../../base/index.ts';

/** Memory of all downloads together, whose readers may be slow for hours. */
const ALL_BYTES = 512 * MIB;
/** Of this for one client: the rest is left to others. */
const CLIENT_BYTES = 384 * MIB;
/** Downloads take long: who is refused need not come back at once. */
const RETRY_AFTER_SECONDS = 10;

/** What one download has in memory at most while its reader takes nothing. */
export const DOWNLOAD_BYTES = {
  /** Four groups of 4 MiB, and what they were coded as. */
  raw: 24 * MIB,
  /** Four groups of 1 MiB with room for the chunks at their ends. */
  gzip: 6 * MIB,
} as const;

/** Bounds the memory of downloads for all callers together. */
export class DownloadMemory {
  readonly #taken = new Map<string, number>();
  #takenBytes = 0;

  /**
   * Takes room for a download. Dispose what it gives when the download has ended.
   *
   * @throws IngotError `too-many-requests` with `retryAfterSeconds`
   */
  take(clientId: string, lengthBytes: number): Disposable {
    const own = this.#taken.get(clientId) ?? 0;
    if (this.#takenBytes + lengthBytes > ALL_BYTES || own + lengthBytes > CLIENT_BYTES) {
      throw new IngotError(
        'too-many-requests',
        `too many downloads are under way; wait ${RETRY_AFTER_SECONDS} s`,
        { retryAfterSeconds: RETRY_AFTER_SECONDS },
      );
    }
    this.#takenBytes += lengthBytes;
    this.#taken.set(clientId, own + lengthBytes);
    return { [Symbol.dispose]: () => this.#giveBack(clientId, lengthBytes) };
  }

  #giveBack(clientId: string, lengthBytes: number): void {
    const left = (this.#taken.get(clientId) ?? 0) - lengthBytes;
    this.#takenBytes -= lengthBytes;
    if (left > 0) this.#taken.set(clientId, left);
    else this.#taken.delete(clientId);
  }
}
