import { availableParallelism } from 'node:os';

/** Each call in flight keeps about 1 MiB. */
const MAX_ENGINE_CALLS = 24;

/**
 * How many native calls a codec has in flight: two for each core, so that a core finds work while
 * a result is taken, and none of more than are of use.
 */
export const ENGINE_CALLS: number = Math.min(2 * availableParallelism() + 2, MAX_ENGINE_CALLS);

/** Lends out at most so many things at once; who comes later waits in line. */
export class LendingPool<T> {
  // In boxes: a thing may be undefined.
  readonly #idle: { readonly thing: T }[] = [];
  readonly #waiting: ((thing: T) => void)[] = [];
  readonly #make: () => T;
  #left: number;

  constructor(make: () => T, limit: number) {
    this.#make = make;
    this.#left = limit;
  }

  async use<R>(work: (thing: T) => Promise<R>): Promise<R> {
    const thing = await this.#take();
    try {
      return await work(thing);
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#idle.push({ thing });
      else next(thing);
    }
  }

  #take(): T | Promise<T> {
    const idle = this.#idle.pop();
    if (idle !== undefined) return idle.thing;
    if (this.#left > 0) {
      this.#left -= 1;
      return this.#make();
    }
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
    });
  }
}
