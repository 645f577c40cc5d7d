import { randomBytes } from 'node:crypto';
import { type Clock, type Id, IngotError } from '../../base/index.ts';

/** A file that another process of this machine has opened and lets this one read. */
export interface HandedFile extends AsyncDisposable {
  /** Where this process can open it as long as it is held. */
  readonly path: string;
  readonly sizeBytes: number;
}

/** A file that another process of this machine has opened, and lets this one write a part of. */
export interface HandedOutput extends AsyncDisposable {
  /** Up to where the file has its space: nothing is written beyond. */
  readonly sizeBytes: number;
  /**
   * Takes bytes that follow what came before; their memory is the caller's again when this returns.
   *
   * @throws IngotError `target-full`, `target-unwritable`, also for earlier bytes
   */
  write(bytes: Uint8Array, offsetBytes: number): Promise<void>;
  /** Waits until the file has all of it. Whoever handed it over makes it durable. */
  flush(): Promise<void>;
}

/** Where a process of this machine leaves an open file. */
export interface Handover extends Disposable {
  /** Name of the socket that takes it, as `docs/formats/native-wire.md` says. */
  readonly socket: string;
  /**
   * Takes what was left.
   *
   * @throws IngotError `source-not-found` when nothing was, `source-unreadable` when it is no file,
   *   `not-allowed` when this process may not read it
   */
  take(): Promise<HandedFile>;
  /**
   * Takes a file that was left to be written.
   *
   * @param name for people
   * @throws IngotError `source-not-found` when nothing was left, `not-allowed` for what is not
   *   written to
   */
  takeOutput(name: string): Promise<HandedOutput>;
}

/** Opens a place for one file, which only who knows the key can leave there. */
export type OpenHandover = (key: string) => Handover;

/** What a client is told: where it leaves an open file, and how it names it afterwards. */
export interface HandoverOffer {
  readonly socket: string;
  readonly key: string;
}

/** Between an offer and the request that names it lies one message on one machine. */
const OFFER_MS = 30_000;
/** Offers that one account may have open: each is a descriptor of this process. */
const OFFERS_PER_ACCOUNT = 8;

/** Files that are written for one account at once: each has some MiB of memory. */
const OUTPUTS_PER_ACCOUNT = 4;

/**
 * Files that are handed over: to imports, from the offer to the end of the import, and to whoever
 * writes them.
 */
export class HandedFiles implements AsyncDisposable {
  readonly #openHandover: OpenHandover;
  readonly #clock: Clock;
  readonly #offers = new Map<
    string,
    { readonly accountId: Id<'acc'>; readonly handover: Handover; readonly endsAt: number }
  >();
  readonly #files = new Map<Id<'img'>, HandedFile>();
  readonly #outputs = new Map<Id<'acc'>, number>();

  constructor(openHandover: OpenHandover, clock: Clock) {
    this.#openHandover = openHandover;
    this.#clock = clock;
  }

  /** @throws IngotError `too-many-requests` */
  offer(accountId: Id<'acc'>): HandoverOffer {
    this.#expire();
    const count = [...this.#offers.values()].filter((one) => one.accountId === accountId).length;
    if (count >= OFFERS_PER_ACCOUNT) {
      throw new IngotError('too-many-requests', `${accountId} is offered ${count} places already`, {
        count,
        retryAfterSeconds: OFFER_MS / 1000,
      });
    }
    const key = randomBytes(32).toString('base64url');
    const handover = this.#openHandover(key);
    const endsAt = this.#clock.monotonic() + OFFER_MS;
    this.#offers.set(key, { accountId, handover, endsAt });
    return { socket: handover.socket, key };
  }

  /**
   * Takes the file that was left at an offer, which is over with it.
   *
   * @throws IngotError `source-not-found` for another's offer, one that is over, and one where
   *   nothing was left; what {@link Handover.take} throws
   */
  async take(accountId: Id<'acc'>, key: string): Promise<HandedFile> {
    using handover = this.#endOffer(accountId, key);
    return await handover.take();
  }

  /**
   * Takes the file that was left at an offer to be written, which is over with it.
   *
   * @param name for people
   * @throws IngotError `too-many-requests`; `source-not-found` as {@link take}; what
   *   {@link Handover.takeOutput} throws
   */
  async takeOutput(accountId: Id<'acc'>, key: string, name: string): Promise<HandedOutput> {
    using handover = this.#endOffer(accountId, key);
    const count = this.#outputs.get(accountId) ?? 0;
    if (count >= OUTPUTS_PER_ACCOUNT) {
      throw new IngotError('too-many-requests', `${count} files are written already`, { count });
    }
    this.#outputs.set(accountId, count + 1);
    await using undo = new AsyncDisposableStack();
    undo.defer(() => this.#leaveOutput(accountId));
    const output = undo.use(await handover.takeOutput(name));
    const owned = undo.move();
    return {
      sizeBytes: output.sizeBytes,
      write: (bytes, offsetBytes) => output.write(bytes, offsetBytes),
      flush: () => output.flush(),
      [Symbol.asyncDispose]: () => owned.disposeAsync(),
    };
  }

  /** Keeps a file for the import of this image, until {@link forget}. */
  keep(imageId: Id<'img'>, file: HandedFile): void {
    this.#files.set(imageId, file);
  }

  /** @returns the file of this import, if it was handed over to this process */
  fileOf(imageId: Id<'img'>): HandedFile | undefined {
    return this.#files.get(imageId);
  }

  /** Closes the file of an import that has ended. */
  async forget(imageId: Id<'img'>): Promise<void> {
    const file = this.#files.get(imageId);
    this.#files.delete(imageId);
    await file?.[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { handover } of this.#offers.values()) handover[Symbol.dispose]();
    this.#offers.clear();
    for (const imageId of [...this.#files.keys()]) await this.forget(imageId);
  }

  /** Ends an offer. @returns its place, now the caller's */
  #endOffer(accountId: Id<'acc'>, key: string): Handover {
    this.#expire();
    const offer = this.#offers.get(key);
    if (offer?.accountId !== accountId) {
      throw new IngotError('source-not-found', 'nothing was offered under this key');
    }
    this.#offers.delete(key);
    return offer.handover;
  }

  #leaveOutput(accountId: Id<'acc'>): void {
    const left = (this.#outputs.get(accountId) ?? 1) - 1;
    if (left === 0) this.#outputs.delete(accountId);
    else this.#outputs.set(accountId, left);
  }

  #expire(): void {
    for (const [key, { handover, endsAt }] of this.#offers) {
      if (endsAt > this.#clock.monotonic()) continue;
      handover[Symbol.dispose]();
      this.#offers.delete(key);
    }
  }
}
