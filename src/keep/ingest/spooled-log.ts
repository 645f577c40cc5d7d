import type { OpenSpool, Spool } from './spool.ts';

/** Reads of a spool: long ones. */
const READ_BYTES = 1024 * 1024;

/**
 * Bytes that are appended now and read once later, in memory as long as they are few, then spooled.
 *
 * Owns its spool.
 */
export class SpooledLog implements AsyncDisposable {
  readonly #openSpool: OpenSpool;
  readonly #memoryBytes: number;
  #parts: Buffer[] = [];
  #partsBytes = 0;
  #spool: Spool | undefined;
  #spooledBytes = 0;

  /** @param memoryBytes what may stay in memory */
  constructor(openSpool: OpenSpool, memoryBytes: number) {
    this.#openSpool = openSpool;
    this.#memoryBytes = memoryBytes;
  }

  /** How many bytes were appended. */
  get sizeBytes(): number {
    return this.#spooledBytes + this.#partsBytes;
  }

  /** @param bytes are kept, not copied */
  async append(bytes: Buffer): Promise<void> {
    this.#parts.push(bytes);
    this.#partsBytes += bytes.byteLength;
    if (this.#partsBytes <= this.#memoryBytes) return;
    this.#spool ??= await this.#openSpool();
    // Emptied part by part: joining them would take their memory twice.
    for (const part of this.#parts) await this.#spool.append(part);
    this.#spooledBytes += this.#partsBytes;
    this.#parts = [];
    this.#partsBytes = 0;
  }

  /** @returns everything in order, in buffers of any length; memory is freed on the way */
  async *drain(): AsyncGenerator<Buffer, void, undefined> {
    for (let at = 0; at < this.#spooledBytes; at += READ_BYTES) {
      const length = Math.min(READ_BYTES, this.#spooledBytes - at);
      const bytes = await this.#spool?.read(at, length);
      if (bytes !== undefined) yield bytes;
    }
    for (let part = this.#parts.shift(); part !== undefined; part = this.#parts.shift()) {
      yield part;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#spool?.[Symbol.asyncDispose]();
    this.#spool = undefined;
  }
}
