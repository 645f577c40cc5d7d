/**
 * A few blocks of memory between a socket that fills them and a receiver that empties them.
 *
 * The socket reads into {@link room}; each read is told by {@link filled}. Once all blocks are full
 * the socket must pause until {@link onRoom} is called.
 */
export class BlockRing {
  /** Called when there is room again after `filled` said that there is none. */
  onRoom: () => void = () => undefined;
  readonly #blockBytes: number;
  readonly #free: Buffer[];
  /** Blocks that are full; of the first ones' bytes the receiver may have had some. */
  readonly #full: { readonly block: Buffer; readonly fromByte: number }[] = [];
  /** The block that is filled now: how far it is, and how far the receiver has had it. */
  #current: Buffer;
  #filledBytes = 0;
  #givenBytes = 0;
  /** The full block that the receiver has. */
  #taken: Buffer | undefined;
  #isPaused = false;
  #wake: (() => void) | undefined;
  #ending: { readonly failure: unknown } | undefined;

  /** @param blocks at least 3 */
  constructor(blockBytes: number, blocks: number) {
    this.#blockBytes = blockBytes;
    this.#free = Array.from({ length: blocks - 1 }, () => Buffer.allocUnsafeSlow(blockBytes));
    this.#current = Buffer.allocUnsafeSlow(blockBytes);
  }

  /** Where the next read goes to. Never empty. */
  room(): Buffer {
    return this.#current.subarray(this.#filledBytes);
  }

  /** @returns false when the socket must pause */
  filled(lengthBytes: number): boolean {
    this.#filledBytes += lengthBytes;
    if (this.#filledBytes === this.#blockBytes) this.#turn();
    this.#wakeUp();
    // The block that is filled next must be there already when the one before is full: the socket
    // keeps the memory that it was told last. So it pauses one block early.
    this.#isPaused = this.#free.length === 0;
    return !this.#isPaused;
  }

  /** No more comes; what is there is still given out. The first ending counts. */
  end(): void {
    this.#ending ??= { failure: undefined };
    this.#wakeUp();
  }

  /** Fails the receiver, after what is there. */
  fail(failure: unknown): void {
    this.#ending ??= { failure: failure ?? new Error('the connection failed') };
    this.#wakeUp();
  }

  /**
   * Takes what has come. The buffer is valid until the next call.
   *
   * @returns undefined at the end
   * @throws what `fail` was told
   */
  async next(): Promise<Buffer | undefined> {
    this.#giveBack();
    for (;;) {
      const full = this.#full.shift();
      if (full !== undefined) {
        this.#taken = full.block;
        if (full.fromByte < this.#blockBytes) return full.block.subarray(full.fromByte);
        this.#giveBack();
        continue;
      }
      if (this.#givenBytes < this.#filledBytes) {
        const bytes = this.#current.subarray(this.#givenBytes, this.#filledBytes);
        this.#givenBytes = this.#filledBytes;
        return bytes;
      }
      if (this.#ending !== undefined) {
        if (this.#ending.failure !== undefined) throw this.#ending.failure;
        return undefined;
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** Begins another block. */
  #turn(): void {
    this.#full.push({ block: this.#current, fromByte: this.#givenBytes });
    // A TLS connection may go on a little after it was paused.
    this.#current = this.#free.pop() ?? Buffer.allocUnsafeSlow(this.#blockBytes);
    this.#filledBytes = 0;
    this.#givenBytes = 0;
  }

  #giveBack(): void {
    if (this.#taken === undefined) return;
    this.#free.push(this.#taken);
    this.#taken = undefined;
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.onRoom();
  }

  #wakeUp(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }
}
