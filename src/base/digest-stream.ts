import { createHash } from 'node:crypto';
import { type Digest, digestFromBytes } from './digest.ts';
import { MIB } from './sizes.ts';

/**
 * Computes the digest of bytes that come one after another, where it can on another thread.
 *
 * Every implementation passes `test/contracts/digest-stream.ts`. Calls need not wait for each other:
 * they are worked off in their order. Disposal ends the work, whatever is still under way.
 */
export interface DigestStream extends AsyncDisposable {
  /** Gives memory that {@link update} reads without a copy. */
  allocate(sizeBytes: number): Buffer;
  /**
   * Takes the next bytes.
   *
   * @param bytes must not change until the promise settles
   * @returns settles when they are part of the digest
   */
  update(bytes: Uint8Array): Promise<void>;
  /** Takes so many zero bytes. */
  zeros(lengthBytes: number): Promise<void>;
  /** Ends the stream. @returns the digest of everything before */
  digest(): Promise<Digest>;
}

const ZEROS = Buffer.alloc(MIB);

/** Computes on the caller's thread: for a few bytes, and where there are no threads. */
export function inlineDigestStream(): DigestStream {
  const hash = createHash('sha256');
  return {
    allocate: (sizeBytes) => Buffer.allocUnsafeSlow(sizeBytes),
    update: async (bytes) => {
      hash.update(bytes);
    },
    zeros: async (lengthBytes) => {
      for (let left = lengthBytes; left > 0; left -= ZEROS.length) {
        hash.update(left < ZEROS.length ? ZEROS.subarray(0, left) : ZEROS);
      }
    },
    digest: async () => digestFromBytes(hash.digest()),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}
