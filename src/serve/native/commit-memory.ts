import { type Clock, type Id, IngotError } from '../../base/index.ts';
import type { Image } from '../../keep/index.ts';
import type { Caller } from './backend.ts';

/** How long a commit's answer is remembered, for a client that lost it. */
const REMEMBER_MS = 10 * 60_000;
const MAX_REMEMBERED = 1000;

interface Commit {
  readonly accountId: Id<'acc'>;
  readonly startedAt: number;
  readonly image: Promise<Image>;
}

/**
 * Makes asking for a commit again the same as asking once: who lost the answer gets the same image,
 * and who asks while it is under way waits for the same one. It forgets what failed.
 */
export class CommitMemory {
  readonly #clock: Clock;
  readonly #commits = new Map<Id<'ing'>, Commit>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** @throws IngotError `ingest-not-found` for another account's, and what `commit` throws */
  async once(caller: Caller, id: Id<'ing'>, commit: () => Promise<Image>): Promise<Image> {
    this.#forgetOld();
    const known = this.#commits.get(id);
    if (known !== undefined) {
      if (known.accountId === caller.accountId) return known.image;
      throw new IngotError('ingest-not-found', `no upload session is ${id}`);
    }
    const image = commit();
    this.#commits.set(id, {
      accountId: caller.accountId,
      startedAt: this.#clock.monotonic(),
      image,
    });
    try {
      return await image;
    } catch (thrown) {
      this.#commits.delete(id);
      throw thrown;
    }
  }

  #forgetOld(): void {
    const now = this.#clock.monotonic();
    for (const [id, commit] of this.#commits) {
      const isOld = now - commit.startedAt > REMEMBER_MS;
      // In the order in which they began: what follows is younger.
      if (!isOld && this.#commits.size < MAX_REMEMBERED) return;
      this.#commits.delete(id);
    }
  }
}
