import type { Readable } from 'node:stream';
import type { Clock } from '../../base/index.ts';
import { releaseMemory } from '../../bytes/index.ts';
import type { LentBuffer } from '../../keep/index.ts';
import { limitedBody } from './body.ts';
import { Turnstile } from './turnstile.ts';

/**
 * Bodies that are in lent memory at once, for all callers together: with 16 MiB each it bounds what
 * uploads can take, and leaves half of the lent windows to imports. Others wait with their bytes in
 * the socket.
 */
const BODIES_IN_MEMORY = 3;

/** A body of a command, 4.6 MB, comes within it at 40 Mbit/s. */
const PATIENCE_MS = 1000;

/** With 16 MiB each; of those only what came takes memory. */
const SLOW_BODIES = 8;

const ENDED = new Error('the body has ended');

/** A body in memory that is disposed with it. */
class HeldBody implements LentBuffer {
  #room: LentBuffer;
  #countBytes = 0;

  constructor(room: LentBuffer) {
    this.#room = room;
  }

  get bytes(): Buffer {
    return this.#room.bytes.subarray(0, this.#countBytes);
  }

  add(piece: Buffer): void {
    this.#countBytes += piece.copy(this.#room.bytes, this.#countBytes);
  }

  /** Takes what has come to another place, and gives the one before back. */
  moveTo(room: LentBuffer): void {
    this.bytes.copy(room.bytes);
    this.#room[Symbol.dispose]();
    this.#room = room;
  }

  [Symbol.dispose](): void {
    this.#room[Symbol.dispose]();
  }
}

/**
 * Receives bodies of segments into lent memory, a few at once.
 *
 * One that takes long to come goes on in memory of its own: it is its sender whom it waits for, and
 * neither other uploads nor imports wait with it.
 */
export class SegmentBodies {
  readonly #lend: (lengthBytes: number) => Promise<LentBuffer>;
  readonly #clock: Clock;
  readonly #places = new Turnstile(BODIES_IN_MEMORY);
  readonly #slowPlaces = new Turnstile(SLOW_BODIES);

  constructor(lend: (lengthBytes: number) => Promise<LentBuffer>, clock: Clock) {
    this.#lend = lend;
    this.#clock = clock;
  }

  /**
   * Reads a whole body.
   *
   * @param maxBytes what its sender has promised
   * @returns the body; dispose it when it is done with
   * @throws IngotError as `limitedBody` does
   */
  async receive(body: Readable, maxBytes: number): Promise<LentBuffer> {
    using undo = new DisposableStack();
    const held = undo.use(new HeldBody(await this.#room(maxBytes)));
    const ended = new AbortController();
    const moving = this.#moveWhenSlow(held, maxBytes, ended.signal);
    try {
      for await (const piece of limitedBody(body, { maxBytes, clock: this.#clock })) {
        held.add(piece);
        // A piece alone in its memory is nobody else's: node's parser copies each out of the socket's.
        if (piece.byteLength === piece.buffer.byteLength) releaseMemory(piece);
      }
    } finally {
      // A reason of its own spares the stack of a new one for every body.
      ended.abort(ENDED);
      await moving;
    }
    undo.move();
    return held;
  }

  /** Waits for a place, and for memory in it. */
  async #room(lengthBytes: number): Promise<LentBuffer> {
    using undo = new DisposableStack();
    undo.use(await this.#places.enter());
    const { bytes } = undo.use(await this.#lend(lengthBytes));
    const owned = undo.move();
    return { bytes, [Symbol.dispose]: () => owned.dispose() };
  }

  /** @param signal aborts when the body has ended */
  async #moveWhenSlow(held: HeldBody, maxBytes: number, signal: AbortSignal): Promise<void> {
    for (;;) {
      try {
        await this.#clock.sleep(PATIENCE_MS, signal);
      } catch {
        return;
      }
      const place = this.#slowPlaces.tryEnter();
      if (place === undefined) continue;
      const bytes = Buffer.allocUnsafeSlow(maxBytes);
      const leave = (): void => {
        releaseMemory(bytes);
        place[Symbol.dispose]();
      };
      held.moveTo({ bytes, [Symbol.dispose]: leave });
      return;
    }
  }
}
