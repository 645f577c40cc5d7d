import { digestFromBytes } from '../../base/index.ts';
import { ByteQueue } from '../../bytes/index.ts';
import type { ManifestEntry } from './ingest-session.ts';
import type { OpenSpool } from './spool.ts';
import { SpooledLog } from './spooled-log.ts';

/** Digest (zeros: a hole) and length. */
const ENTRY_BYTES = 32 + 8;

/** What a buffer of entries has before it goes into the log. */
const BUFFER_ENTRIES = 1024;

/** 200 000 entries, about 16 GB of data. */
const MEMORY_BYTES = 8 * 1024 * 1024;

/** Lengths are kept in two words: a double would make every sum of them one of doubles. */
const WORD = 2 ** 32;

const NO_DIGEST = Buffer.alloc(32);

/** The entries of a manifest in the making, 40 bytes each, beyond 8 MiB in a spool. */
export class EntryLog implements AsyncDisposable {
  readonly #log: SpooledLog;
  #buffer = Buffer.allocUnsafeSlow(BUFFER_ENTRIES * ENTRY_BYTES);
  #filled = 0;

  constructor(openSpool: OpenSpool) {
    this.#log = new SpooledLog(openSpool, MEMORY_BYTES);
  }

  /** @param digest 32 bytes; undefined: a hole */
  async add(lengthBytes: number, digest: Buffer | undefined): Promise<void> {
    (digest ?? NO_DIGEST).copy(this.#buffer, this.#filled);
    this.#buffer.writeUInt32LE(lengthBytes % WORD, this.#filled + 32);
    this.#buffer.writeUInt32LE(Math.floor(lengthBytes / WORD), this.#filled + 36);
    this.#filled += ENTRY_BYTES;
    if (this.#filled < this.#buffer.byteLength) return;
    await this.#log.append(this.#buffer);
    this.#buffer = Buffer.allocUnsafeSlow(BUFFER_ENTRIES * ENTRY_BYTES);
    this.#filled = 0;
  }

  /** @returns all entries in the order they were added, in groups; may be asked once */
  async *entries(): AsyncGenerator<readonly ManifestEntry[], void, undefined> {
    const queue = new ByteQueue();
    for await (const bytes of this.#log.drain()) {
      queue.push(bytes);
      yield takeEntries(queue);
    }
    queue.push(this.#buffer.subarray(0, this.#filled));
    yield takeEntries(queue);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#log[Symbol.asyncDispose]();
  }
}

/** Takes all whole entries out of the queue. */
function takeEntries(queue: ByteQueue): ManifestEntry[] {
  const count = Math.floor(queue.length / ENTRY_BYTES);
  const bytes = queue.take(count * ENTRY_BYTES);
  const entries: ManifestEntry[] = [];
  for (let at = 0; at < bytes.byteLength; at += ENTRY_BYTES) {
    const digest = bytes.subarray(at, at + 32);
    const high = bytes.readUInt32LE(at + 36);
    const low = bytes.readUInt32LE(at + 32);
    const lengthBytes = high === 0 ? low : high * WORD + low;
    entries.push(
      digest.equals(NO_DIGEST)
        ? { kind: 'hole', lengthBytes }
        : { kind: 'chunk', digest: digestFromBytes(digest), lengthBytes },
    );
  }
  return entries;
}
