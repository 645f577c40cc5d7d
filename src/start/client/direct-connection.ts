import { connect as connectTcp, type OnReadOpts, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { IngotError, KIB } from '../../base/index.ts';
import { encodeHead, HEAD_END, type MessageHead, parseHead } from './message-head.ts';

/** The head of an answer is never longer. */
const MAX_HEAD_BYTES = 32 * KIB;

/** Where a connection goes. */
export interface DirectTarget {
  readonly url: URL;
  /** The authorities that are trusted; undefined: the system's. */
  readonly ca: string | undefined;
  /** Longest silence while an answer is waited for. */
  readonly timeoutMs: number;
}

/** One request and where its answer goes. */
export interface DirectCall {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
  /** Gives memory of exactly a length for the body of the answer. May throw: the call fails so. */
  readonly allocate: (lengthBytes: number) => Buffer;
  readonly signal: AbortSignal | undefined;
}

/** An answer whose body lies in the memory that was allocated for it. */
export interface DirectReply {
  readonly head: MessageHead;
  readonly body: Buffer;
}

interface Waiting {
  readonly allocate: DirectCall['allocate'];
  readonly done: PromiseWithResolvers<DirectReply>;
}

/**
 * A connection that makes one POST after the other and receives each answer where it is wanted: no
 * buffer is made on the way, and the system copies the bytes once.
 *
 * Only answers with a length are understood: another one is a `daemon-protocol`. A call that failed
 * closes the connection.
 */
export class DirectConnection implements Disposable {
  readonly #socket: Socket;
  readonly #timeoutMs: number;
  readonly #headRoom = Buffer.allocUnsafeSlow(MAX_HEAD_BYTES);
  #headBytes = 0;
  #waiting: Waiting | undefined;
  /** The answer whose body is on its way. */
  #reply: DirectReply | undefined;
  #bodyBytes = 0;
  #isClosed = false;

  constructor({ url, ca, timeoutMs }: DirectTarget) {
    const isTls = url.protocol === 'https:';
    const options = {
      host: url.hostname.replace(/^\[|\]$/g, ''),
      port: Number(url.port || (isTls ? 443 : 80)),
      noDelay: true,
      onread: {
        buffer: () => this.#room(),
        callback: (lengthBytes: number) => this.#take(lengthBytes),
      } satisfies OnReadOpts,
    };
    this.#timeoutMs = timeoutMs;
    this.#socket = isTls
      ? connectTls({ ...options, ...(ca === undefined ? {} : { ca }), servername: options.host })
      : connectTcp(options);
    this.#socket.on('timeout', () => this.#fail(new Error(`nothing came for ${timeoutMs} ms`)));
    this.#socket.on('error', (cause) => this.#fail(cause));
    this.#socket.on('end', () => this.#fail(new Error('the connection ended before an answer')));
    this.#socket.on('close', () => this.#fail(new Error('the connection was closed')));
  }

  /** Whether another call can be made: none is under way, and nobody has closed it. */
  get isIdle(): boolean {
    return !this.#isClosed && this.#waiting === undefined;
  }

  /**
   * Makes a call, when none is under way.
   *
   * @throws Error when the connection breaks off; IngotError `daemon-protocol`; what `allocate`
   *   throws; the signal's reason
   */
  async post({ url, headers, body, allocate, signal }: DirectCall): Promise<DirectReply> {
    signal?.throwIfAborted();
    if (!this.isIdle) throw new Error('the connection is not free');
    const done = Promise.withResolvers<DirectReply>();
    const onAbort = (): void => this.#fail(signal?.reason);
    signal?.addEventListener('abort', onAbort, { once: true });
    this.#waiting = { allocate, done };
    this.#socket.ref();
    this.#socket.setTimeout(this.#timeoutMs);
    const head = encodeHead('POST', url, { ...headers, 'Content-Length': String(body.length) });
    this.#socket.write(Buffer.concat([Buffer.from(head, 'latin1'), body]));
    try {
      return await done.promise;
    } finally {
      signal?.removeEventListener('abort', onAbort);
      this.#socket.setTimeout(0);
      // One that waits for the next call keeps no process alive.
      this.#socket.unref();
    }
  }

  [Symbol.dispose](): void {
    this.#fail(new Error('the connection was closed'));
  }

  /** Where the next read of the system goes. Never empty. */
  #room(): Buffer {
    return this.#reply === undefined
      ? this.#headRoom.subarray(this.#headBytes)
      : this.#reply.body.subarray(this.#bodyBytes);
  }

  #take(lengthBytes: number): boolean {
    try {
      if (this.#reply === undefined) this.#takeHead(lengthBytes);
      else this.#bodyBytes += lengthBytes;
      this.#finish();
    } catch (thrown) {
      this.#fail(thrown);
    }
    return true;
  }

  #takeHead(lengthBytes: number): void {
    this.#headBytes += lengthBytes;
    const known = this.#headRoom.subarray(0, this.#headBytes);
    const end = known.indexOf(HEAD_END);
    if (end < 0 && this.#headBytes < MAX_HEAD_BYTES) return;
    if (this.#waiting === undefined) throw protocolFailure('something that nobody asked for');
    if (end < 0) throw protocolFailure(`a head above ${MAX_HEAD_BYTES} bytes`);
    const head = parseHead(known.toString('latin1', 0, end));
    const bodyBytes = Number(head.headers.get('content-length') ?? Number.NaN);
    if (head.statusCode < 200 || !Number.isSafeInteger(bodyBytes) || bodyBytes < 0) {
      throw protocolFailure('an answer without a length');
    }
    const rest = known.subarray(end + HEAD_END.length);
    if (rest.length > bodyBytes) throw protocolFailure('more than it promised');
    const body = this.#waiting.allocate(bodyBytes);
    this.#bodyBytes = rest.copy(body);
    this.#reply = { head, body };
  }

  #finish(): void {
    const reply = this.#reply;
    if (reply === undefined || this.#bodyBytes < reply.body.length) return;
    const done = this.#waiting?.done;
    this.#reply = undefined;
    this.#waiting = undefined;
    this.#headBytes = 0;
    if (reply.head.headers.get('connection')?.toLowerCase() === 'close') this[Symbol.dispose]();
    done?.resolve(reply);
  }

  #fail(cause: unknown): void {
    this.#isClosed = true;
    const done = this.#waiting?.done;
    this.#waiting = undefined;
    this.#socket.destroy();
    done?.reject(cause);
  }
}

function protocolFailure(what: string): IngotError {
  return new IngotError('daemon-protocol', `the daemon sent ${what}`);
}
