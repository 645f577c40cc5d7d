/** Lets one piece of work run at a time, in the order in which they came. */
export class Mutex {
  #last: Promise<unknown> = Promise.resolve();

  async run<T>(work: () => Promise<T>): Promise<T> {
    const before = this.#last;
    const gate = Promise.withResolvers<void>();
    this.#last = gate.promise;
    await before;
    try {
      return await work();
    } finally {
      gate.resolve();
    }
  }
}
