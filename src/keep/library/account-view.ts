import { type Digest, type Id, IngotError, isId } from '../../base/index.ts';
import type { ImageChanges, ImageRow } from './catalogue.ts';
import { DirectoryImage } from './directory-image.ts';
import { type Image, type ImageDescription, type ImageStatus, isReadable } from './image.ts';
import type { AccountLibrary, ImagePage, ImageUpdate, LibrarySession } from './image-library.ts';
import type { LibraryContext } from './library-context.ts';
import type { OpenImage } from './open-image.ts';

/** What an account's view needs of the whole library. */
export interface LibraryWorks {
  begin(accountId: Id<'acc'>, description: ImageDescription): Promise<LibrarySession>;
  ingest(accountId: Id<'acc'>, id: string): LibrarySession;
  change(row: ImageRow, changes: ImageChanges): Promise<ImageRow>;
  destroy(row: ImageRow): Promise<void>;
  /** Removes an image that is being made by an import, or could not be made. */
  forget(row: ImageRow): Promise<void>;
  plainDigest(imageId: Id<'img'>, signal?: AbortSignal): Promise<Digest>;
}

const MOST_PER_LIST = 1000;
/** Images in one of these can be read. */
export const READABLE: readonly ImageStatus[] = ['available', 'deprecated'];
const MAX_TEXT = 4096;

/** The library as one account sees it. */
export class AccountView implements AccountLibrary {
  readonly #context: LibraryContext;
  readonly #works: LibraryWorks;
  readonly #accountId: Id<'acc'>;

  constructor(context: LibraryContext, works: LibraryWorks, accountId: Id<'acc'>) {
    this.#context = context;
    this.#works = works;
    this.#accountId = accountId;
  }

  /** @throws IngotError when the account may not describe an image like that */
  async check(description: ImageDescription): Promise<void> {
    checkTexts(description);
    const { ancestorId } = description;
    // A foreign ancestor would tell that it exists, so it is answered like an absent one.
    if (ancestorId !== undefined) await this.#visible(ancestorId);
  }

  async begin(description: ImageDescription): Promise<LibrarySession> {
    await this.check(description);
    return await this.#works.begin(this.#accountId, description);
  }

  ingest(id: string): LibrarySession {
    return this.#works.ingest(this.#accountId, id);
  }

  async list({
    afterId,
    limit = MOST_PER_LIST,
    statuses = READABLE,
  }: ImagePage = {}): Promise<Image[]> {
    return await this.#context.catalogue.images({
      accountId: this.#accountId,
      statuses,
      afterId: afterId ?? '',
      limit: Math.max(1, Math.min(limit, MOST_PER_LIST)),
    });
  }

  async show(imageId: string): Promise<Image> {
    return (await this.#unmade(imageId)) ?? (await this.#visible(imageId));
  }

  async update(imageId: string, changes: ImageUpdate): Promise<Image> {
    checkTexts(changes);
    const row = await this.#own(imageId);
    const { isDeprecated, ...rest } = changes;
    if (isDeprecated === undefined) return await this.#works.change(row, rest);
    const status = isDeprecated ? 'deprecated' : 'available';
    return await this.#works.change(row, { ...rest, status });
  }

  async destroy(imageId: string): Promise<void> {
    const unmade = await this.#unmade(imageId);
    if (unmade !== undefined) {
      await this.#works.forget(unmade);
      return;
    }
    const row = await this.#own(imageId);
    if (row.isLocked) {
      throw new IngotError('image-in-use', `${row.id} is locked`, { imageId: row.id });
    }
    await this.#works.destroy(row);
  }

  async open(imageId: string): Promise<OpenImage> {
    if (!isId('img', imageId)) throw notFound(imageId);
    // The lease first: an image that is still there afterwards keeps its chunks.
    const release = this.#context.leases.take(imageId);
    try {
      const unmade = await this.#unmade(imageId);
      if (unmade !== undefined) {
        throw new IngotError('image-not-ready', `${imageId} is ${unmade.status}`, { imageId });
      }
      return await DirectoryImage.open(this.#context, await this.#visible(imageId), release);
    } catch (error) {
      release();
      throw error;
    }
  }

  async plainDigest(imageId: string, signal?: AbortSignal): Promise<Digest> {
    const row = await this.#visible(imageId);
    return row.plainDigest ?? (await this.#works.plainDigest(row.id, signal));
  }

  /** An own image that is not there yet, or never will be. */
  async #unmade(imageId: string): Promise<ImageRow | undefined> {
    const row = isId('img', imageId) ? await this.#context.catalogue.image(imageId) : undefined;
    const isUnmade = row?.status === 'creating' || row?.status === 'failed';
    return isUnmade && row.ownerId === this.#accountId ? row : undefined;
  }

  async #visible(imageId: string): Promise<ImageRow> {
    const row = isId('img', imageId) ? await this.#context.catalogue.image(imageId) : undefined;
    if (
      row === undefined ||
      !isReadable(row.status) ||
      !(row.ownerId === this.#accountId || row.isPublic)
    ) {
      throw notFound(imageId);
    }
    return row;
  }

  async #own(imageId: string): Promise<ImageRow> {
    const row = await this.#visible(imageId);
    if (row.ownerId !== this.#accountId) {
      throw new IngotError('not-allowed', `${row.id} belongs to another account`, {
        imageId: row.id,
      });
    }
    return row;
  }
}

function notFound(imageId: string): IngotError {
  // The id comes from outside and may be anything: it is cut before it is repeated.
  const name = imageId.slice(0, 64);
  return new IngotError('image-not-found', `there is no image ${name}`, { imageId: name });
}

function checkTexts(texts: { name?: string; description?: string; arch?: string }): void {
  for (const [member, text] of [
    ['name', texts.name],
    ['description', texts.description],
    ['arch', texts.arch],
  ] as const) {
    if (text !== undefined && text.length > MAX_TEXT) {
      throw new IngotError(
        'request-invalid',
        `${member} has ${text.length} characters; at most ${MAX_TEXT} are taken`,
      );
    }
  }
}
