import { digestBytes, digestFromBytes, IngotError } from '../../base/index.ts';
import { MAX_CHUNK_BYTES } from '../../bytes/index.ts';
import type { IngestSummary, ManifestEntry } from '../../keep/index.ts';
import { summaryFromWire, summaryToWire } from './ingest-wire.ts';

/** Media type of a body that closes an ingest. */
export const MANIFEST_MEDIA_TYPE = 'application/vnd.ingot.manifest';

const MAGIC = Buffer.from('ingman\0\x01', 'latin1');
const MAX_SUMMARY_BYTES = 64 * 1024;
const TAG_HOLE = 0;
const TAG_CHUNK = 1;
const TAG_END = 0xff;
const HOLE_BYTES = 9;
const CHUNK_BYTES = 37;
const END_BYTES = 9;
const ENTRIES_PER_BATCH = 4096;

/**
 * Encodes the manifest and summary that close an ingest, as a stream.
 *
 * The summary comes first and the number of entries last, so that a body that was cut short is
 * never taken for a whole one.
 *
 * @throws IngotError `manifest-invalid` for lengths that no extent has
 * @see docs/formats/native-wire.md
 */
export async function* encodeManifest(
  entries: AsyncIterable<readonly ManifestEntry[]>,
  summary: IngestSummary,
): AsyncGenerator<Buffer, void, undefined> {
  const json = Buffer.from(JSON.stringify(summaryToWire(summary)));
  const head = Buffer.alloc(MAGIC.byteLength + 4);
  MAGIC.copy(head);
  head.writeUInt32LE(json.byteLength, MAGIC.byteLength);
  yield Buffer.concat([head, json]);
  let count = 0;
  for await (const batch of entries) {
    count += batch.length;
    yield encodeBatch(batch);
  }
  const end = Buffer.alloc(END_BYTES);
  end[0] = TAG_END;
  end.writeBigUInt64LE(BigInt(count), 1);
  yield end;
}

function encodeBatch(batch: readonly ManifestEntry[]): Buffer {
  const buffer = Buffer.allocUnsafe(batch.length * CHUNK_BYTES);
  let at = 0;
  for (const entry of batch) {
    const limit = entry.kind === 'hole' ? Number.MAX_SAFE_INTEGER : MAX_CHUNK_BYTES;
    if (
      !Number.isSafeInteger(entry.lengthBytes) ||
      entry.lengthBytes < 1 ||
      entry.lengthBytes > limit
    ) {
      throw new IngotError('manifest-invalid', `a ${entry.kind} has no ${entry.lengthBytes} bytes`);
    }
    if (entry.kind === 'hole') {
      buffer[at] = TAG_HOLE;
      buffer.writeBigUInt64LE(BigInt(entry.lengthBytes), at + 1);
      at += HOLE_BYTES;
    } else {
      buffer[at] = TAG_CHUNK;
      buffer.writeUInt32LE(entry.lengthBytes, at + 1);
      buffer.set(digestBytes(entry.digest), at + 5);
      at += CHUNK_BYTES;
    }
  }
  return buffer.subarray(0, at);
}

/**
 * Reads the body that closes an ingest: first the summary, then the entries in batches.
 *
 * A body that ends before its count, or goes on after it, fails inside the stream of entries.
 */
export class ManifestReader implements AsyncDisposable {
  readonly #source: AsyncIterator<Uint8Array>;
  #pending: Buffer = Buffer.alloc(0);
  #count = 0;

  constructor(body: AsyncIterable<Uint8Array>) {
    this.#source = body[Symbol.asyncIterator]();
  }

  /** @throws IngotError `request-invalid`, `version-unknown` */
  async summary(): Promise<IngestSummary> {
    const head = await this.#take(MAGIC.byteLength + 4);
    if (!head.subarray(0, 7).equals(MAGIC.subarray(0, 7))) {
      throw new IngotError('request-invalid', 'the body is no manifest');
    }
    if (head[7] !== MAGIC[7]) {
      throw new IngotError('version-unknown', `a manifest of version ${head[7]} is not known`);
    }
    const lengthBytes = head.readUInt32LE(MAGIC.byteLength);
    if (lengthBytes > MAX_SUMMARY_BYTES) {
      throw new IngotError('request-invalid', `a summary has no ${lengthBytes} bytes`);
    }
    return summaryFromWire((await this.#take(lengthBytes)).toString('utf8'));
  }

  /** Yields the entries in batches; call it once, after {@link summary}. */
  async *entries(): AsyncGenerator<readonly ManifestEntry[], void, undefined> {
    let batch: ManifestEntry[] = [];
    for (;;) {
      const tag = (await this.#take(1))[0];
      if (tag === TAG_END) break;
      batch.push(await this.#entry(tag));
      this.#count += 1;
      if (batch.length === ENTRIES_PER_BATCH) {
        yield batch;
        batch = [];
      }
    }
    const promised = (await this.#take(END_BYTES - 1)).readBigUInt64LE(0);
    if (promised !== BigInt(this.#count)) {
      throw new IngotError('request-invalid', `${this.#count} entries came, not ${promised}`);
    }
    await this.#expectEnd();
    if (batch.length > 0) yield batch;
  }

  /** Lets go of the body, wherever the reading ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#source.return?.();
  }

  #entry(tag: number | undefined): Promise<ManifestEntry> | ManifestEntry {
    // The bytes are usually there already: an await for each entry would cost more than the entry.
    const needed = (tag === TAG_CHUNK ? CHUNK_BYTES : HOLE_BYTES) - 1;
    if (tag !== TAG_CHUNK && tag !== TAG_HOLE) {
      throw new IngotError('request-invalid', `entry ${this.#count} has the unknown tag ${tag}`);
    }
    if (this.#pending.byteLength >= needed) return this.#parse(tag, this.#cut(needed));
    return this.#take(needed).then((bytes) => this.#parse(tag, bytes));
  }

  #parse(tag: number, bytes: Buffer): ManifestEntry {
    if (tag === TAG_CHUNK) {
      const lengthBytes = bytes.readUInt32LE(0);
      if (lengthBytes === 0 || lengthBytes > MAX_CHUNK_BYTES) {
        throw new IngotError('manifest-invalid', `a chunk has no ${lengthBytes} bytes`);
      }
      return { kind: 'chunk', digest: digestFromBytes(bytes.subarray(4, 36)), lengthBytes };
    }
    const lengthBytes = bytes.readBigUInt64LE(0);
    if (lengthBytes === 0n || lengthBytes > BigInt(Number.MAX_SAFE_INTEGER)) {
      throw new IngotError('manifest-invalid', `a hole has no ${lengthBytes} bytes`);
    }
    return { kind: 'hole', lengthBytes: Number(lengthBytes) };
  }

  async #take(lengthBytes: number): Promise<Buffer> {
    while (this.#pending.byteLength < lengthBytes) {
      const next = await this.#source.next();
      if (next.done === true) {
        throw new IngotError('request-invalid', 'the manifest ends before its end mark');
      }
      this.#pending = Buffer.concat([this.#pending, next.value]);
    }
    return this.#cut(lengthBytes);
  }

  #cut(lengthBytes: number): Buffer {
    const bytes = this.#pending.subarray(0, lengthBytes);
    this.#pending = this.#pending.subarray(lengthBytes);
    return bytes;
  }

  async #expectEnd(): Promise<void> {
    const next = this.#pending.byteLength > 0 ? { done: false } : await this.#source.next();
    if (next.done !== true) throw new IngotError('request-invalid', 'bytes follow the end mark');
  }
}
