import { MIB } from '../../base/index.ts';
import { BufferPool } from '../buffer-pool.ts';
import type { LentBytes } from '../disk-reader.ts';

/** What a pass reads at once, at most. */
const ROOM_BYTES = 2 * MIB;
/** Reads under way at once. */
const MAX_IDLE = 4;

/** Lends memory that is used again for bytes that lie in several places. */
export class LentCopies {
  readonly #pool = new BufferPool(() => Buffer.allocUnsafeSlow(ROOM_BYTES), MAX_IDLE);

  /** @param fill writes all of its target */
  async lend(lengthBytes: number, fill: (target: Buffer) => Promise<unknown>): Promise<LentBytes> {
    const room = lengthBytes <= ROOM_BYTES ? this.#pool.take() : Buffer.allocUnsafe(lengthBytes);
    const bytes = room.subarray(0, lengthBytes);
    const release = (): void => {
      if (lengthBytes <= ROOM_BYTES) this.#pool.giveBack(room);
    };
    try {
      await fill(bytes);
    } catch (thrown) {
      release();
      throw thrown;
    }
    return { bytes, release };
  }
}
