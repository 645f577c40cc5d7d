import type { Digest } from './digest.ts';

/** The digest of a whole file, and what tells whether somebody else read the same bytes. */
export interface FileDigest {
  readonly digest: Digest;
  readonly crc32: number;
  readonly sizeBytes: number;
}
