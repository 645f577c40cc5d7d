import type { Digest, Id } from '../../base/index.ts';
import type { CaptureFacts } from '../../capture/index.ts';

/** Life of an image. Only `available` and `deprecated` images can be read. */
export type ImageStatus =
  | 'creating'
  | 'available'
  | 'deprecated'
  | 'deleting'
  | 'deleted'
  | 'failed';

/** Tells whether an image can be read. */
export function isReadable(status: ImageStatus): boolean {
  return status === 'available' || status === 'deprecated';
}

/** How an image came to be: uploaded or imported, or captured from something that ran. */
export type ImageKind = 'upload' | 'snapshot';

/** What the owner says of a new image. */
export interface ImageDescription {
  readonly name: string;
  readonly description: string;
  readonly kind: ImageKind;
  /** CPU architecture as Brightbox spells it: `x86_64`, `i686`, `aarch64`, … */
  readonly arch: string;
  readonly ancestorId: Id<'img'> | undefined;
  readonly compatibilityMode: boolean;
}

/** An entry of the library. */
export interface Image extends ImageDescription {
  readonly id: Id<'img'>;
  readonly ownerId: Id<'acc'>;
  readonly status: ImageStatus;
  readonly isPublic: boolean;
  readonly isOfficial: boolean;
  readonly isLocked: boolean;
  /** ms since 1970. */
  readonly createdAt: number;
  /** Size of the whole disk. */
  readonly virtualSizeBytes: number;
  /** Size of its `.gz`. */
  readonly gzipSizeBytes: number;
  /** Bytes that this image added to the library when it was made. */
  readonly addedBytes: number;
  /** SHA-256 of the whole plain disk, once somebody computed it. */
  readonly plainDigest: Digest | undefined;
  readonly capture: CaptureFacts;
  /** Why it is `failed`, for people. */
  readonly failure?: string | undefined;
}
