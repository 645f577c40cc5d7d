import type { ServerResponse } from 'node:http';

/** Sends buffers that are used again once the system has taken them. */
export class Sender {
  readonly #response: Pick<ServerResponse, 'write'>;
  readonly #gone: AbortSignal;
  #sending: PromiseWithResolvers<void> | undefined;

  /** @param gone ends a wait whose answer may never hear of its writes */
  constructor(response: Pick<ServerResponse, 'write'>, gone: AbortSignal) {
    this.#response = response;
    this.#gone = gone;
    // One listener for all: an answer that waits for its turn may never hear of its writes.
    gone.addEventListener('abort', () => this.#sending?.reject(gone.reason), { once: true });
  }

  /** Waits until no byte of the buffer is needed any more. */
  async send(bytes: Uint8Array): Promise<void> {
    this.#gone.throwIfAborted();
    const sending = Promise.withResolvers<void>();
    this.#sending = sending;
    this.#response.write(bytes, (failure) => {
      if (failure) sending.reject(failure);
      else sending.resolve();
    });
    await sending.promise;
  }
}
