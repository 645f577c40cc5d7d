import { type Clock, type Id, isFailure } from '../../base/index.ts';
import type { OpenImage } from '../../keep/index.ts';
import type { Caller } from './backend.ts';

/** A reader that asks for nothing for so long has to open the image again. */
const IDLE_MS = 60_000;
/** Images that are held open at once; the one that was idle longest makes room. */
const MAX_HELD = 64;

interface Held {
  readonly opened: Promise<OpenImage>;
  users: number;
  idleSince: number;
}

/**
 * Keeps images open between the requests of one reader: a restore takes thousands, and must not
 * lose its chunks to a collection in between.
 */
export class HeldImages implements AsyncDisposable {
  readonly #clock: Clock;
  readonly #open: (caller: Caller, id: Id<'img'>) => Promise<OpenImage>;
  readonly #held = new Map<string, Held>();
  readonly #ended = new AbortController();

  constructor(clock: Clock, open: (caller: Caller, id: Id<'img'>) => Promise<OpenImage>) {
    this.#clock = clock;
    this.#open = open;
    this.#sweepNowAndThen().catch((thrown: unknown) => {
      if (!this.#ended.signal.aborted) throw thrown;
    });
  }

  /**
   * Uses an image, opened for this account by an earlier request or now.
   *
   * @throws IngotError `image-not-found`, `image-not-ready`; what `use` throws
   */
  async use<T>(caller: Caller, id: Id<'img'>, use: (image: OpenImage) => Promise<T>): Promise<T> {
    const key = `${caller.accountId}/${id}`;
    const held = this.#held.get(key) ?? this.#start(key, caller, id);
    held.users += 1;
    try {
      return await use(await held.opened);
    } catch (thrown) {
      // The place of a chunk may have changed since it was opened: the next request looks anew.
      if (isFailure(thrown)) this.#held.delete(key);
      throw thrown;
    } finally {
      held.users -= 1;
      held.idleSince = this.#clock.monotonic();
      if (held.users === 0 && this.#held.get(key) !== held) await close(held);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended.abort();
    for (const [key, held] of [...this.#held]) {
      this.#held.delete(key);
      if (held.users === 0) await close(held);
    }
  }

  #start(key: string, caller: Caller, id: Id<'img'>): Held {
    const held: Held = {
      opened: this.#open(caller, id),
      users: 0,
      idleSince: this.#clock.monotonic(),
    };
    this.#held.set(key, held);
    this.#makeRoom();
    return held;
  }

  #makeRoom(): void {
    if (this.#held.size <= MAX_HELD) return;
    const idle = [...this.#held].filter(([, held]) => held.users === 0);
    idle.sort(([, a], [, b]) => a.idleSince - b.idleSince);
    const [oldest] = idle;
    if (oldest !== undefined) this.#drop(...oldest);
  }

  #drop(key: string, held: Held): void {
    this.#held.delete(key);
    // Nobody waits for it; an image that does not close only keeps its chunks until a restart.
    close(held).catch(() => undefined);
  }

  async #sweepNowAndThen(): Promise<void> {
    for (;;) {
      await this.#clock.sleep(IDLE_MS / 4, this.#ended.signal);
      const before = this.#clock.monotonic() - IDLE_MS;
      for (const [key, held] of [...this.#held]) {
        if (held.users === 0 && held.idleSince < before) this.#drop(key, held);
      }
    }
  }
}

async function close(held: Held): Promise<void> {
  const [opened] = await Promise.allSettled([held.opened]);
  if (opened.status === 'fulfilled') await opened.value[Symbol.asyncDispose]();
}
