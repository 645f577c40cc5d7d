import { connect as connectTcp, type OnReadOpts, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { IngotError, KIB, MIB } from '../../base/index.ts';
import { BlockRing } from './block-ring.ts';
import { encodeHead, HEAD_END, type MessageHead, parseHead } from './message-head.ts';

/** One read of the system fills at most this. */
const BLOCK_BYTES = MIB;
/** One is filled, one is with the receiver, one is next. */
const BLOCKS = 4;
/** The head of an answer is never longer. */
const MAX_HEAD_BYTES = 32 * KIB;

/** A GET of the daemon. */
export interface DirectRequest {
  readonly url: URL;
  /** The authorities that are trusted; undefined: the system's. */
  readonly ca: string | undefined;
  readonly headers: Readonly<Record<string, string>>;
  /** Longest silence. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
}

/**
 * A GET over a connection of its own, received into a few large blocks that are used again.
 *
 * Node's HTTP client gives each 64 KiB that came a buffer of its own: four times the processor time,
 * most of it the collector's. Only answers with a length are read here; disposal closes the
 * connection.
 *
 * @see https://www.rfc-editor.org/rfc/rfc9112
 */
export class DirectAnswer implements Disposable {
  readonly #ring = new BlockRing(BLOCK_BYTES, BLOCKS);
  readonly #socket: Socket;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = (): void => {
    this.#ring.fail(this.#signal?.reason);
    this.#socket.destroy();
  };
  #bodyStart: Buffer = Buffer.alloc(0);

  private constructor(request: DirectRequest) {
    const { url, signal } = request;
    const isTls = url.protocol === 'https:';
    const options = {
      host: url.hostname.replace(/^\[|\]$/g, ''),
      port: Number(url.port || (isTls ? 443 : 80)),
      onread: {
        buffer: () => this.#ring.room(),
        callback: (lengthBytes: number) => this.#ring.filled(lengthBytes),
      } satisfies OnReadOpts,
    };
    const trusted = request.ca === undefined ? {} : { ca: request.ca };
    this.#socket = isTls
      ? connectTls({ ...options, ...trusted, servername: options.host })
      : connectTcp(options);
    this.#signal = signal;
    signal?.addEventListener('abort', this.#onAbort, { once: true });
    this.#ring.onRoom = () => this.#socket.resume();
    this.#socket.setTimeout(request.timeoutMs, () => {
      this.#socket.destroy(new Error(`nothing came for ${request.timeoutMs} ms`));
    });
    this.#socket.once('error', (cause) => this.#ring.fail(cause));
    this.#socket.once('close', () => this.#ring.end());
    this.#socket.write(encodeHead('GET', url, { ...request.headers, Connection: 'close' }));
  }

  /**
   * Sends a GET.
   *
   * @returns the answer's head, whatever its status, and the answer to read the body from
   * @throws Error when the connection or the head breaks off; the signal's reason
   */
  static async open(
    request: DirectRequest,
  ): Promise<{ readonly head: MessageHead; readonly answer: DirectAnswer }> {
    request.signal?.throwIfAborted();
    using undo = new DisposableStack();
    const answer = undo.use(new DirectAnswer(request));
    const head = await answer.#readHead();
    undo.move();
    return { head, answer };
  }

  /**
   * Yields the body.
   *
   * @param lengthBytes of the body, from its head
   * @returns buffers of any length, each valid until the next is asked for
   * @throws Error when the connection breaks off before the end
   */
  async *body(lengthBytes: number): AsyncGenerator<Buffer, void, undefined> {
    let left = lengthBytes;
    const first = this.#bodyStart.subarray(0, left);
    left -= first.length;
    if (first.length > 0) yield first;
    while (left > 0) {
      const bytes = await this.#ring.next();
      if (bytes === undefined) throw new Error(`the answer ended ${left} bytes too early`);
      const own = bytes.subarray(0, left);
      left -= own.length;
      yield own;
    }
  }

  [Symbol.dispose](): void {
    this.#signal?.removeEventListener('abort', this.#onAbort);
    this.#ring.end();
    this.#socket.destroy();
  }

  async #readHead(): Promise<MessageHead> {
    let known: Buffer = Buffer.alloc(0);
    for (;;) {
      const bytes = await this.#ring.next();
      if (bytes === undefined) throw new Error('the connection ended before an answer');
      // Only the head is copied often; it mostly comes at once.
      known = Buffer.concat([known, bytes]);
      const end = known.indexOf(HEAD_END);
      if (end >= 0) {
        this.#bodyStart = known.subarray(end + HEAD_END.length);
        return parseHead(known.toString('latin1', 0, end));
      }
      if (known.length > MAX_HEAD_BYTES) {
        throw new IngotError(
          'daemon-protocol',
          `an answer's head is above ${MAX_HEAD_BYTES} bytes`,
        );
      }
    }
  }
}
