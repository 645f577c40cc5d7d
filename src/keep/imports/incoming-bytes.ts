import { createHash, type Hash } from 'node:crypto';
import { type Digest, digestFromBytes } from '../../base/index.ts';

/**
 * Passes pieces on until `signal` aborts: also while it waits for a sender that says nothing.
 *
 * @throws the signal's reason; what the source throws
 */
export async function* untilAborted(
  source: AsyncIterable<Buffer>,
  signal: AbortSignal,
): AsyncGenerator<Buffer, void, undefined> {
  const pieces = source[Symbol.asyncIterator]();
  try {
    for (;;) {
      signal.throwIfAborted();
      let onAbort = (): void => undefined;
      // A promise for each wait: one for all would gather a reaction per piece.
      const waiting = new Promise<IteratorResult<Buffer>>((resolve, reject) => {
        onAbort = () => reject(signal.reason);
        signal.addEventListener('abort', onAbort, { once: true });
        pieces.next().then(resolve, reject);
      });
      try {
        const next = await waiting;
        if (next.done === true) return;
        yield next.value;
      } finally {
        signal.removeEventListener('abort', onAbort);
      }
    }
  } finally {
    // Not awaited: it would wait for the sender that was given up.
    pieces.return?.().catch(() => undefined);
  }
}

/** A digest of bytes that arrive in several requests. */
export class RunningDigest {
  #hash: Hash = createHash('sha256');
  #count = 0;

  /** Bytes that are in it. */
  get countBytes(): number {
    return this.#count;
  }

  update(bytes: Uint8Array): void {
    this.#hash.update(bytes);
    this.#count += bytes.byteLength;
  }

  /** @returns the digest of what it was given so far */
  value(): Digest {
    return digestFromBytes(this.#hash.copy().digest());
  }
}
