import { type Id, IngotError, newId } from '../../base/index.ts';
import type { ImageRow } from './catalogue.ts';
import { DirectoryIngest } from './directory-ingest.ts';
import type { ImageDescription } from './image.ts';
import type { LibrarySession } from './image-library.ts';
import type { LibraryContext } from './library-context.ts';

/** Ingests that are open, and how many there may be. */
export class OpenSessions {
  readonly #context: LibraryContext;
  readonly #onCommitted: (row: ImageRow) => void;
  readonly #open = new Map<string, DirectoryIngest>();

  /** @param onCommitted told of each image that is made */
  constructor(context: LibraryContext, onCommitted: (row: ImageRow) => void) {
    this.#context = context;
    this.#onCommitted = onCommitted;
  }

  /**
   * Opens an ingest.
   *
   * @param reservedId an image that is `creating`, and becomes the ingest's
   * @throws IngotError `library-busy` when there are too many
   */
  async begin(
    accountId: Id<'acc'>,
    description: ImageDescription,
    reservedId?: Id<'img'>,
  ): Promise<LibrarySession> {
    const { limits, catalogue } = this.#context;
    await this.expire();
    const own = [...this.#open.values()].filter((session) => session.accountId === accountId);
    if (this.#open.size >= limits.sessions || own.length >= limits.sessionsPerAccount) {
      throw new IngotError(
        'library-busy',
        `${this.#open.size} ingests are open, ${own.length} of them by ${accountId}`,
      );
    }
    let id = newId('ing');
    while (this.#open.has(id)) id = newId('ing');
    const events = {
      onCommitted: this.#onCommitted,
      onEnded: (): void => void this.#open.delete(id),
    };
    const session = new DirectoryIngest(
      this.#context,
      id,
      accountId,
      description,
      events,
      reservedId,
    );
    this.#open.set(id, session);
    try {
      await catalogue.beginSession(id);
    } catch (error) {
      this.#open.delete(id);
      throw error;
    }
    return session;
  }

  /** @throws IngotError `ingest-not-found`, also for what is another account's, or an import's own */
  of(accountId: Id<'acc'>, id: string): LibrarySession {
    const session = this.#open.get(id);
    const isForeign = session?.accountId !== accountId || session.wantsCompared === true;
    if (session === undefined || isForeign) {
      const name = id.slice(0, 64);
      throw new IngotError('ingest-not-found', `there is no ingest ${name}`, { ingest: name });
    }
    return session;
  }

  /** Gives up those that nobody has called for longer than the limit. */
  async expire(): Promise<void> {
    for (const session of [...this.#open.values()]) {
      if (!session.isIdle) continue;
      this.#context.log.info('an ingest without calls is given up', { ingest: session.id });
      await session.abort();
    }
  }

  /** Gives all of them up; what fails then is for the next start to clean up. */
  async abortAll(): Promise<void> {
    await Promise.allSettled([...this.#open.values()].map((session) => session.abort()));
  }
}
