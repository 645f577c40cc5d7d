import { createCipheriv, createSecretKey, type KeyObject, randomBytes } from 'node:crypto';

/** Bytes of a mark. */
export const MARK_BYTES = 16;

/** Each key is used for one function, so its nonce need not differ. */
const NONCE = Buffer.alloc(12);

/**
 * Marks bytes, to find out later whether they are still the same: four to seven times as fast as
 * SHA-256, and as sure where nobody sees the marks.
 *
 * A mark is Poly1305 under a key of this object alone, drawn at random. Whoever chooses two
 * different byte strings of up to L bytes without knowing the key gets the same mark for both with a
 * probability of at most (L + 32) / 2^107. So marks stay in the memory of one process: they name nothing,
 * and a mark that went out would say something of the key.
 *
 * @see docs/capture.md "What tells that a block has changed"
 * @see https://www.rfc-editor.org/rfc/rfc8439 sections 2.5 and 2.8
 */
export class SecretMarks {
  readonly #key: KeyObject = createSecretKey(randomBytes(32));

  /** @returns {@link MARK_BYTES} bytes */
  markOf(bytes: Uint8Array): Buffer {
    // With nothing to encrypt the tag is Poly1305 of the bytes, their padding and their length.
    const cipher = createCipheriv('chacha20-poly1305', this.#key, NONCE, {
      authTagLength: MARK_BYTES,
    });
    cipher.setAAD(bytes, { plaintextLength: 0 });
    cipher.final();
    return cipher.getAuthTag();
  }
}
