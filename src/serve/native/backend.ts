import type { Id } from '../../base/index.ts';
import type { Image, IngestTarget, OpenImage } from '../../keep/index.ts';
import type { PublishedFile } from '../../publish/index.ts';

/** Who asks: an API client of an account. */
export interface Caller {
  readonly clientId: Id<'cli'>;
  readonly accountId: Id<'acc'>;
}

/** One page of a list; ask for the next with the last id. */
export interface ImagePage {
  readonly images: readonly Image[];
  /** Id to ask the next page after, or undefined at the end. */
  readonly next: Id<'img'> | undefined;
}

/** What an owner may change of an image. */
export interface ImageChange {
  readonly name?: string | undefined;
  readonly description?: string | undefined;
  readonly arch?: string | undefined;
  readonly isPublic?: boolean | undefined;
  readonly isDeprecated?: boolean | undefined;
  readonly compatibilityMode?: boolean | undefined;
}

/** Images as the native API asks for them. Foreign and absent ids fail alike. */
export interface NativeImages {
  list(
    caller: Caller,
    page: { readonly after: Id<'img'> | undefined; readonly limit: number },
  ): Promise<ImagePage>;
  /** @throws IngotError `image-not-found` */
  show(caller: Caller, id: Id<'img'>): Promise<Image>;
  /** @throws IngotError `image-not-found`, `not-allowed` */
  update(caller: Caller, id: Id<'img'>, change: ImageChange): Promise<Image>;
  /** @throws IngotError `image-not-found`, `not-allowed` */
  setLocked(caller: Caller, id: Id<'img'>, isLocked: boolean): Promise<Image>;
  /** @throws IngotError `image-not-found`, `image-in-use`, `not-allowed` */
  destroy(caller: Caller, id: Id<'img'>): Promise<Image>;
}

/** API clients as the native API asks for them. */
export interface NativeClients {
  /**
   * Compares a secret in constant time.
   *
   * @returns who it is, or undefined: a wrong id and a wrong secret look alike
   */
  authenticate(clientId: string, secret: string): Promise<Caller | undefined>;
  /** Tells whether a client that holds a token still exists. */
  isKnown(caller: Caller): Promise<boolean>;
}

/** Forms that an image is given out in. */
export type ImageForm = 'raw' | 'gzip';

/** Everything that the native API does is done by these; `start/` wires them. */
export interface NativeBackend {
  readonly clients: NativeClients;
  readonly images: NativeImages;
  /** Where a caller's images come in. */
  ingestTarget(caller: Caller): IngestTarget;
  /** @throws IngotError `image-not-found`, `image-not-ready` */
  openFile(caller: Caller, id: Id<'img'>, form: ImageForm): Promise<PublishedFile>;
  /** @throws IngotError `image-not-found`, `image-not-ready` */
  openImage(caller: Caller, id: Id<'img'>): Promise<OpenImage>;
}
