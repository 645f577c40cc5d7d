/** Lets a fixed number of holders in at once; others wait in the order in which they came. */
export class Turnstile {
  #free: number;
  readonly #waiting = new Set<() => void>();

  constructor(places: number) {
    this.#free = places;
  }

  /** How many wait for a place. */
  get waitingCount(): number {
    return this.#waiting.size;
  }

  /**
   * Waits for a place. Dispose what it gives to leave.
   *
   * @param signal ends the wait, with its reason
   */
  async enter(signal?: AbortSignal): Promise<Disposable> {
    signal?.throwIfAborted();
    if (this.#free > 0) this.#free -= 1;
    else await this.#standInLine(signal);
    return this.#place();
  }

  /** @returns a place like that of {@link enter}, or undefined when all are taken */
  tryEnter(): Disposable | undefined {
    if (this.#free === 0) return undefined;
    this.#free -= 1;
    return this.#place();
  }

  #standInLine(signal: AbortSignal | undefined): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const onAbort = (): void => {
      this.#waiting.delete(next);
      reject(signal?.reason);
    };
    const next = (): void => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    this.#waiting.add(next);
    return promise;
  }

  #place(): Disposable {
    let isInside = true;
    return {
      [Symbol.dispose]: () => {
        if (!isInside) return;
        isInside = false;
        const [next] = this.#waiting;
        if (next === undefined) {
          this.#free += 1;
          return;
        }
        this.#waiting.delete(next);
        next();
      },
    };
  }
}
