import { MARK_BYTES, SecretMarks } from '../../base/index.ts';

/** Bytes of a SHA-256. */
const DIGEST_BYTES = 32;

/** 28 MB for one pass, for about 30 GB of data; chunks beyond it are only hashed again. */
const MAX_PLACES = 500_000;

/** Places that memory is taken for at once. */
const BLOCK_PLACES = 4096;

/** Where the chunks of one pass lay, their marks and names; ascending, and read in that order. */
class Places {
  readonly #offsets: Float64Array[] = [];
  readonly #bytes: Buffer[] = [];
  #count = 0;
  #cursor = 0;

  add(offsetBytes: number, mark: Buffer, digest: Buffer): void {
    if (this.#count === MAX_PLACES) return;
    const slot = this.#count % BLOCK_PLACES;
    if (slot === 0) {
      this.#offsets.push(new Float64Array(BLOCK_PLACES));
      this.#bytes.push(Buffer.alloc(BLOCK_PLACES * (MARK_BYTES + DIGEST_BYTES)));
    }
    const offsets = this.#offsets.at(-1);
    const bytes = this.#bytes.at(-1);
    if (offsets === undefined || bytes === undefined) return;
    offsets[slot] = offsetBytes;
    const at = slot * (MARK_BYTES + DIGEST_BYTES);
    mark.copy(bytes, at);
    digest.copy(bytes, at + MARK_BYTES);
    this.#count += 1;
  }

  /** @param offsetBytes not below that of the call before */
  find(offsetBytes: number, mark: Buffer): Buffer | undefined {
    while (this.#cursor < this.#count && this.#offsetAt(this.#cursor) < offsetBytes) {
      this.#cursor += 1;
    }
    if (this.#cursor >= this.#count || this.#offsetAt(this.#cursor) !== offsetBytes) {
      return undefined;
    }
    const bytes = this.#bytes[Math.floor(this.#cursor / BLOCK_PLACES)];
    const at = (this.#cursor % BLOCK_PLACES) * (MARK_BYTES + DIGEST_BYTES);
    if (bytes === undefined || !bytes.subarray(at, at + MARK_BYTES).equals(mark)) return undefined;
    return bytes.subarray(at + MARK_BYTES, at + MARK_BYTES + DIGEST_BYTES);
  }

  #offsetAt(index: number): number {
    const block = this.#offsets[Math.floor(index / BLOCK_PLACES)];
    return block?.[index % BLOCK_PLACES] ?? Number.POSITIVE_INFINITY;
  }
}

/**
 * Remembers what a pass named where, so that the next one need not hash what is still the same.
 *
 * A chunk is the same when it begins at the same place and has the same mark, which tells its
 * length too. The marks are secret: no writer can make other bytes look the same (docs/capture.md).
 */
export class KnownNames {
  readonly #marks = new SecretMarks();
  #before = new Places();
  #now = new Places();

  /** Begins a pass: what the one before it named is what is known. */
  beginPass(): void {
    this.#before = this.#now;
    this.#now = new Places();
  }

  /** @returns what {@link nameOf} and {@link remember} want */
  markOf(plain: Buffer): Buffer {
    return this.#marks.markOf(plain);
  }

  /**
   * Looks a chunk up. Ask in disk order.
   *
   * @returns its SHA-256; valid during this pass
   */
  nameOf(offsetBytes: number, mark: Buffer): Buffer | undefined {
    return this.#before.find(offsetBytes, mark);
  }

  /** Notes the name of a chunk for the next pass. Tell in disk order. */
  remember(offsetBytes: number, mark: Buffer, digest: Buffer): void {
    this.#now.add(offsetBytes, mark, digest);
  }
}
