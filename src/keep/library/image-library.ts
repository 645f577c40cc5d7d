import type { Digest, Id } from '../../base/index.ts';
import type { IngestSession, IngestTarget } from '../ingest/ingest-session.ts';
import type { Image, ImageDescription, ImageStatus } from './image.ts';
import type { OpenImage } from './open-image.ts';

/** An ingest that other calls can find again by its id: an upload takes many requests. */
export interface LibrarySession extends IngestSession {
  readonly id: Id<'ing'>;
}

/** Where a list of images goes on. */
export interface ImagePage {
  /** Continue behind this image; images are listed by id. */
  readonly afterId?: Id<'img'>;
  /** 1 to 1000; 1000 when it is not given. */
  readonly limit?: number;
  /** Only images in one of these; those that can be read when it is not given. */
  readonly statuses?: readonly ImageStatus[];
}

/** What an owner may change of an image. */
export type ImageUpdate = Partial<
  Pick<Image, 'name' | 'description' | 'arch' | 'compatibilityMode' | 'isPublic' | 'isLocked'>
> & { readonly isDeprecated?: boolean };

/**
 * The library as one account sees it: its own images and public ones.
 *
 * What is foreign is answered exactly like what does not exist: `image-not-found`.
 */
export interface AccountLibrary extends IngestTarget {
  begin(description: ImageDescription): Promise<LibrarySession>;
  /** @throws IngotError `ingest-not-found` */
  ingest(id: string): LibrarySession;
  list(page?: ImagePage): Promise<Image[]>;
  /**
   * Shows an image, also an own one that is being made or could not be made.
   *
   * @throws IngotError `image-not-found`
   */
  show(imageId: string): Promise<Image>;
  /** @throws IngotError `image-not-found`, `not-allowed` for a public image of another account */
  update(imageId: string, changes: ImageUpdate): Promise<Image>;
  /**
   * Deletes an image for ever. Open downloads of it end undisturbed; no other image is touched. An
   * import that makes it is given up.
   *
   * @throws IngotError `image-not-found`, `not-allowed`, `image-in-use` when it is locked
   */
  destroy(imageId: string): Promise<void>;
  /**
   * Holds an image open for reading.
   *
   * @throws IngotError `image-not-found`, `image-not-ready`
   */
  open(imageId: string): Promise<OpenImage>;
  /**
   * Gives the SHA-256 of the whole plain disk; reads it back once, and remembers it.
   *
   * @throws IngotError `image-not-found`, `chunk-corrupt`, `chunk-missing`, `verify-failed` when the
   *   capture had claimed another one
   */
  plainDigest(imageId: string, signal?: AbortSignal): Promise<Digest>;
}
