import { webcrypto } from 'node:crypto';
import { type Digest, digestFromBytes } from '../../base/index.ts';

/**
 * Computes the digest of plain bytes on another thread, so that all cores hash at once.
 *
 * @param plain is copied before this returns
 */
export async function threadedDigest(plain: Uint8Array<ArrayBuffer>): Promise<Digest> {
  return digestFromBytes(new Uint8Array(await webcrypto.subtle.digest('SHA-256', plain)));
}
