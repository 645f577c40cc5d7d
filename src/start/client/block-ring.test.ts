import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { BlockRing } from './block-ring.ts';

const BLOCK_BYTES = 16;
const BLOCKS = 4;

/** A socket that has all its bytes at once and stops when it is told to. */
class EagerSocket {
  readonly ring = new BlockRing(BLOCK_BYTES, BLOCKS);
  readonly buffers = new Set<unknown>();
  readonly #bytes: Buffer;
  readonly #steps: readonly number[];
  #at = 0;
  #step = 0;
  #isReading = true;

  constructor(bytes: Buffer, steps: readonly number[]) {
    this.#bytes = bytes;
    this.#steps = steps;
    this.ring.onRoom = () => {
      this.#isReading = true;
      this.deliver();
    };
  }

  /** Reads until it is paused or has nothing more. */
  deliver(): void {
    while (this.#isReading && this.#at < this.#bytes.length) {
      const room = this.ring.room();
      this.buffers.add(room.buffer);
      assert.ok(room.length > 0, 'a socket is never given an empty buffer');
      const step = this.#steps[this.#step++ % this.#steps.length] ?? 1;
      const length = Math.min(step, room.length, this.#bytes.length - this.#at);
      this.#bytes.copy(room, 0, this.#at, this.#at + length);
      this.#at += length;
      this.#isReading = this.ring.filled(length);
    }
    if (this.#at === this.#bytes.length) this.ring.end();
  }
}

describe('a ring of blocks', () => {
  test('gives everything in order, out of a few blocks, however it came', async () => {
    const steps = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 9 });
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: 900 }), steps, async (length, sizes) => {
        const bytes = randomBytes(length);
        const socket = new EagerSocket(bytes, sizes);
        socket.deliver();
        const parts: Buffer[] = [];
        for (;;) {
          const part = await socket.ring.next();
          if (part === undefined) break;
          parts.push(Buffer.from(part));
        }
        assert.ok(Buffer.concat(parts).equals(bytes));
        assert.ok(socket.buffers.size <= BLOCKS, `${socket.buffers.size} blocks`);
      }),
    );
  });

  test('gives what is there to a receiver that waits, though the block is not full', async () => {
    const ring = new BlockRing(BLOCK_BYTES, BLOCKS);
    const waiting = ring.next();
    ring.room().write('abc');
    ring.filled(3);
    assert.equal(String(await waiting), 'abc');
    ring.room().write('de');
    ring.filled(2);
    assert.equal(String(await ring.next()), 'de');
  });

  test('fails after what had come before the failure', async () => {
    const ring = new BlockRing(BLOCK_BYTES, BLOCKS);
    ring.room().write('abc');
    ring.filled(3);
    ring.fail(new Error('reset'));
    ring.end();
    assert.equal(String(await ring.next()), 'abc');
    await assert.rejects(ring.next(), /reset/);
  });
});
