import { once } from 'node:events';
import type { Worker } from 'node:worker_threads';

/** What a thread that runs `answerTasks` is sent for a task. */
export interface NumberedTask<T> {
  readonly number: number;
  readonly task: T;
}

/** What it sends back: a result, or what it threw. */
export interface NumberedAnswer<R> {
  readonly number: number;
  readonly result?: R;
  readonly bug?: unknown;
}

/**
 * The caller's side of a worker thread that does tasks in their order. It does not keep the process
 * alive while it has nothing to do.
 *
 * @typeParam R is never undefined
 */
export class TaskThread<T, R> {
  readonly #worker: Worker;
  readonly #calls = new Map<number, PromiseWithResolvers<R>>();
  readonly #onFree: () => void;
  #number = 0;
  #death: Error | undefined;
  #isEnding = false;
  #hasExited = false;

  /**
   * @param worker runs `answerTasks`; it belongs to this object
   * @param onFree is called after each task, and when the thread has died
   */
  constructor(worker: Worker, onFree: () => void) {
    this.#worker = worker;
    this.#onFree = onFree;
    worker.on('message', (answer: NumberedAnswer<R>) => this.#settle(answer));
    worker.on('error', (error) => this.#die(error));
    worker.on('exit', () => {
      this.#hasExited = true;
      this.#die(new Error('a worker thread has ended'));
    });
    // After the listeners: the first one makes it count again.
    worker.unref();
  }

  /** Tasks that it has not answered. */
  get load(): number {
    return this.#calls.size;
  }

  /** @throws what the task threw, or what the thread died of */
  run(task: T): Promise<R> {
    const done = Promise.withResolvers<R>();
    if (this.#death !== undefined) {
      done.reject(this.#death);
      return done.promise;
    }
    if (this.#calls.size === 0) this.#worker.ref();
    this.#number += 1;
    this.#calls.set(this.#number, done);
    this.#worker.postMessage({ number: this.#number, task } satisfies NumberedTask<T>);
    return done.promise;
  }

  /** Lets it do what it has and end; returns when it has. */
  async end(): Promise<void> {
    this.#isEnding = true;
    if (this.#hasExited) return;
    // Not terminated: a thread that is ended while it loads the engine takes the process with it.
    this.#worker.ref();
    this.#worker.postMessage('end');
    await once(this.#worker, 'exit');
  }

  #settle({ number, result, bug }: NumberedAnswer<R>): void {
    const call = this.#calls.get(number);
    this.#calls.delete(number);
    // Once it is ended, whoever waits for its exit needs the event loop.
    if (this.#calls.size === 0 && !this.#isEnding) this.#worker.unref();
    if (result === undefined) call?.reject(bug);
    else call?.resolve(result);
    this.#onFree();
  }

  #die(error: unknown): void {
    this.#death ??= error instanceof Error ? error : new Error(String(error));
    for (const { reject } of this.#calls.values()) reject(this.#death);
    this.#calls.clear();
    this.#onFree();
  }
}
