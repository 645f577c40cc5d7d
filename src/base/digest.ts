import { hash } from 'node:crypto';

/** SHA-256 of plain bytes, as 64 lower-case hex digits. */
export type Digest = string & { readonly __brand: 'digest' };

const HEX_64 = /^[0-9a-f]{64}$/;

/** @returns the digest of `plain` */
export function digestOf(plain: Uint8Array): Digest {
  return hash('sha256', plain, 'hex') as Digest;
}

/** @returns `text` as a digest, or undefined when it is not 64 lower-case hex digits */
export function parseDigest(text: string): Digest | undefined {
  return HEX_64.test(text) ? (text as Digest) : undefined;
}

/** @returns the 32 bytes of a digest */
export function digestBytes(digest: Digest): Buffer {
  return Buffer.from(digest, 'hex');
}

/** @param bytes exactly 32 bytes */
export function digestFromBytes(bytes: Uint8Array): Digest {
  if (bytes.byteLength !== 32) {
    throw new RangeError(`a digest has 32 bytes, not ${bytes.byteLength}`);
  }
  return Buffer.from(bytes.buffer, bytes.byteOffset, 32).toString('hex') as Digest;
}
