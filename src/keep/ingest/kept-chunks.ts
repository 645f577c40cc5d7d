import { type Digest, digestBytes, digestFromBytes, MIB } from '../../base/index.ts';
import { ByteQueue } from '../../bytes/index.ts';
import type { OpenSpool } from './spool.ts';
import { SpooledLog } from './spooled-log.ts';

/** What stays in memory while the source is frozen; more goes to the spool. */
const MEMORY_BYTES = 64 * MIB;

/** A chunk that was put by. */
interface KeptChunk {
  readonly digest: Digest;
  readonly plain: Buffer;
}

/** Digest and length stand before each chunk. */
const HEAD_BYTES = 32 + 4;

/**
 * Chunks put by while a source is frozen: plain, for compressing would make the freeze longer.
 *
 * They are named by these very bytes, which are delivered later: the source is not read again.
 */
export class KeptChunks implements AsyncDisposable {
  readonly #log: SpooledLog;

  constructor(openSpool: OpenSpool) {
    this.#log = new SpooledLog(openSpool, MEMORY_BYTES);
  }

  /** @param plain is copied: it may be a view into something much larger */
  async add(digest: Digest, plain: Buffer): Promise<void> {
    const record = Buffer.allocUnsafeSlow(HEAD_BYTES + plain.byteLength);
    digestBytes(digest).copy(record);
    record.writeUInt32LE(plain.byteLength, 32);
    plain.copy(record, HEAD_BYTES);
    await this.#log.append(record);
  }

  /** @returns all chunks in the order they were added; may be asked once */
  async *drain(): AsyncGenerator<KeptChunk, void, undefined> {
    const queue = new ByteQueue();
    for await (const bytes of this.#log.drain()) {
      queue.push(bytes);
      while (queue.length >= HEAD_BYTES) {
        const lengthBytes = queue.peek(32, 4).readUInt32LE();
        if (queue.length < HEAD_BYTES + lengthBytes) break;
        const digest = digestFromBytes(queue.take(HEAD_BYTES).subarray(0, 32));
        yield { digest, plain: queue.take(lengthBytes) };
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#log[Symbol.asyncDispose]();
  }
}
