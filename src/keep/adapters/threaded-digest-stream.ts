import { Worker } from 'node:worker_threads';
import { copyBytes, type Digest, type DigestStream, digestFromBytes } from '../../base/index.ts';
import { alignedShared } from './shared-memory.ts';

/** Zeros of one message: the thread can be ended between two. */
const MAX_ZEROS = 2 ** 30;

/** A SHA-256 on a thread of its own. */
class ThreadedDigestStream implements DigestStream {
  readonly #worker = new Worker(new URL('./digest-stream-worker.ts', import.meta.url), {
    resourceLimits: { maxYoungGenerationSizeMb: 2 },
  });
  /** In the order of what was sent. */
  readonly #waiting: PromiseWithResolvers<Uint8Array | undefined>[] = [];
  #failure: unknown;

  constructor() {
    this.#worker.on('message', (result: Uint8Array | undefined) => {
      this.#waiting.shift()?.resolve(result);
    });
    this.#worker.on('error', (error) => this.#fail(error));
    this.#worker.on('exit', () => this.#fail(new Error('the thread of a digest has ended')));
    // What waits for a digest keeps the process; a thread without work must not.
    this.#worker.unref();
  }

  allocate(sizeBytes: number): Buffer {
    // Aligned, so that a device is read straight into it.
    return alignedShared(sizeBytes);
  }

  async update(bytes: Uint8Array): Promise<void> {
    await this.#send(bytes.buffer instanceof SharedArrayBuffer ? bytes : shared(bytes));
  }

  async zeros(lengthBytes: number): Promise<void> {
    const parts: Promise<unknown>[] = [];
    for (let left = lengthBytes; left > 0; left -= MAX_ZEROS) {
      parts.push(this.#send(Math.min(left, MAX_ZEROS)));
    }
    await Promise.all(parts);
  }

  async digest(): Promise<Digest> {
    const bytes = await this.#send('end');
    if (bytes === undefined) throw new Error('the thread of a digest gave none');
    return digestFromBytes(bytes);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#fail(new Error('the digest was given up'));
    await this.#worker.terminate();
  }

  async #send(what: Uint8Array | number | 'end'): Promise<Uint8Array | undefined> {
    if (this.#failure !== undefined) throw this.#failure;
    const answer = Promise.withResolvers<Uint8Array | undefined>();
    // Whoever fails first may leave others behind that nobody waits for.
    answer.promise.catch(() => undefined);
    this.#waiting.push(answer);
    this.#worker.ref();
    this.#worker.postMessage(what);
    try {
      return await answer.promise;
    } finally {
      // Once it is ended, whoever waits for its exit needs the event loop.
      if (this.#waiting.length === 0 && this.#failure === undefined) this.#worker.unref();
    }
  }

  #fail(failure: unknown): void {
    this.#failure ??= failure;
    for (const waiting of this.#waiting.splice(0)) waiting.reject(this.#failure);
  }
}

/** Opens a digest that is computed beside everything else. */
export function openThreadedDigestStream(): DigestStream {
  return new ThreadedDigestStream();
}

function shared(bytes: Uint8Array): Buffer {
  const copy = Buffer.from(new SharedArrayBuffer(bytes.byteLength));
  copyBytes(copy, 0, bytes);
  return copy;
}
