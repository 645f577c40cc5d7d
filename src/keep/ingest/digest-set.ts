/**
 * The first half of a digest: two that share it are not found by chance nor by trying 2^64 times,
 * and a chunk that was lost that way would be missed when the manifest is checked.
 */
const KEY_BYTES = 16;

/** Half full at most, so that a search ends soon. */
const SLOTS_PER_DIGEST = 2;

/**
 * A set of SHA-256 digests in 24 bytes each.
 *
 * It may forget: when it is full it starts anew. Use it only where a digest that is not found costs
 * a question and nothing else.
 */
export class DigestSet {
  readonly #limit: number;
  #digests: Buffer;
  /** Index + 1 of the digest in each slot; 0: free. */
  #slots: Uint32Array;
  #size = 0;

  /** @param limit how many digests it holds at most */
  constructor(limit: number) {
    this.#limit = limit;
    const start = Math.min(1024, limit);
    this.#digests = Buffer.allocUnsafeSlow(start * KEY_BYTES);
    this.#slots = new Uint32Array(start * SLOTS_PER_DIGEST);
  }

  get size(): number {
    return this.#size;
  }

  /**
   * Adds a digest.
   *
   * @param digest 32 bytes; copied
   * @returns whether it is new
   */
  add(digest: Buffer): boolean {
    let slot = this.#slotOf(digest);
    if (this.#slots[slot] !== 0) return false;
    if (this.#size * KEY_BYTES === this.#digests.byteLength) {
      this.#makeRoom();
      slot = this.#slotOf(digest);
    }
    digest.copy(this.#digests, this.#size * KEY_BYTES);
    this.#size += 1;
    this.#slots[slot] = this.#size;
    return true;
  }

  /** @returns the slot that has the digest, or the free one where it would be */
  #slotOf(digest: Buffer): number {
    // A digest is evenly spread by itself.
    let slot = digest.readUInt32LE(0) % this.#slots.length;
    for (;;) {
      const index = this.#slots[slot] ?? 0;
      if (index === 0) return slot;
      const at = (index - 1) * KEY_BYTES;
      if (this.#digests.compare(digest, 0, KEY_BYTES, at, at + KEY_BYTES) === 0) return slot;
      slot = (slot + 1) % this.#slots.length;
    }
  }

  #makeRoom(): void {
    if (this.#size >= this.#limit) {
      this.#size = 0;
      this.#slots.fill(0);
      return;
    }
    const count = Math.min(this.#limit, this.#size * 2);
    const digests = Buffer.allocUnsafeSlow(count * KEY_BYTES);
    this.#digests.copy(digests);
    this.#digests = digests;
    this.#slots = new Uint32Array(count * SLOTS_PER_DIGEST);
    for (let index = 0; index < this.#size; index++) {
      const at = index * KEY_BYTES;
      this.#slots[this.#slotOf(digests.subarray(at, at + KEY_BYTES))] = index + 1;
    }
  }
}
