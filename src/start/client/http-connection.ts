import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { ClientRequest, Agent as HttpAgent, IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { errnoOf, IngotError, systemClock } from '../../base/index.ts';
import { releaseMemory } from '../../bytes/index.ts';
import { DirectAnswer } from './direct-answer.ts';
import { DirectConnection, type DirectReply } from './direct-connection.ts';

// An `import` asks the module for all of its names, and one of them, `WebSocket`, loads the whole of
// fetch: 30 ms of every command.
const http = process.getBuiltinModule('node:http');

/** Connections to one daemon at once. */
const MAX_SOCKETS = 6;
/** Pauses between attempts of a call that may be made again. */
const RETRY_PAUSES_MS = [250, 1000, 3000];
/** An answer that is read into memory is never longer. */
const MAX_ANSWER_BYTES = 32 * 1024 * 1024;
/** An answer above this is read into one buffer. */
const LONG_BYTES = 256 * 1024;

/** One call of the daemon. */
export interface HttpCall {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE' | 'HEAD';
  /** Path below the daemon's URL, with its query. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Buffers are sent with their length; a stream is sent in chunks, and never twice. */
  readonly body?: readonly Uint8Array[] | AsyncIterable<Uint8Array>;
  /** Longest silence until the answer's head is there. */
  readonly timeoutMs: number;
  /** Whether making the call twice is the same as making it once. */
  readonly isIdempotent: boolean;
  readonly signal: AbortSignal | undefined;
}

/** HTTP to one daemon: connections kept open, pauses between attempts, failures of the table. */
export class HttpConnection implements Disposable {
  readonly #base: URL;
  readonly #agent: HttpAgent | HttpsAgent;
  readonly #ca: string | undefined;
  /** For answers that are received where they are wanted. */
  readonly #direct = new Set<DirectConnection>();
  #wasReached = false;

  /**
   * @param url the daemon's base URL
   * @param caPath PEM file of an authority to trust beside the system's
   */
  constructor(url: string, caPath: string | undefined) {
    this.#base = new URL(url.endsWith('/') ? url : `${url}/`);
    const options = { keepAlive: true, maxSockets: MAX_SOCKETS };
    const isTls = this.#base.protocol === 'https:';
    this.#ca = isTls && caPath !== undefined ? readAuthority(caPath) : undefined;
    this.#agent = isTls
      ? new HttpsAgent({ ...options, ...(this.#ca === undefined ? {} : { ca: this.#ca }) })
      : new http.Agent(options);
  }

  /** The daemon's base URL, for messages. */
  get url(): string {
    return this.#base.href.replace(/\/$/, '');
  }

  /**
   * Makes a call.
   *
   * @returns the answer, whatever its status, with its body unread: read it or destroy it
   * @throws IngotError `daemon-unreachable`; the signal's reason when it aborts
   */
  async call(call: HttpCall): Promise<IncomingMessage> {
    for (let attempt = 0; ; attempt++) {
      call.signal?.throwIfAborted();
      try {
        const answer = await this.#once(call);
        this.#wasReached = true;
        return answer;
      } catch (thrown) {
        call.signal?.throwIfAborted();
        const pauseMs = RETRY_PAUSES_MS[attempt];
        // Nobody listened, so nothing was done: even a call that must be made once may be made. But
        // a daemon that never answered is not restarting, it is not there.
        const isRefused = errnoOf(thrown) === 'ECONNREFUSED';
        const mayRepeat = isRefused ? this.#wasReached : call.isIdempotent;
        if (pauseMs === undefined || !mayRepeat || isStream(call.body) || isFinal(thrown)) {
          throw this.#unreachable(thrown);
        }
        await systemClock.sleep(pauseMs, call.signal);
      }
    }
  }

  /**
   * Makes a GET over a connection of its own, once.
   *
   * @throws Error when it breaks off before an answer
   */
  openDirect(
    call: Pick<HttpCall, 'path' | 'timeoutMs' | 'signal'> & {
      readonly headers: Readonly<Record<string, string>>;
    },
  ): ReturnType<typeof DirectAnswer.open> {
    const { headers, timeoutMs, signal } = call;
    return DirectAnswer.open({ url: this.#url(call), ca: this.#ca, headers, timeoutMs, signal });
  }

  /**
   * Makes a POST that may be made twice, and receives its answer in memory of the caller.
   *
   * @param allocate gives memory of exactly a length
   * @returns the answer, whatever its status
   * @throws IngotError `daemon-unreachable`; `daemon-protocol` when it has no length or is too long;
   *   the signal's reason
   */
  async postInto(
    call: Pick<HttpCall, 'path' | 'timeoutMs' | 'signal'> & {
      readonly headers: Readonly<Record<string, string>>;
      readonly body: Buffer;
    },
    allocate: (lengthBytes: number) => Buffer,
  ): Promise<DirectReply> {
    const { headers, body, signal, timeoutMs } = call;
    const url = this.#url(call);
    const connection = this.#freeDirect(timeoutMs);
    try {
      return await connection.post({
        url,
        headers,
        body,
        signal,
        allocate: (lengthBytes) => {
          refuseLong(lengthBytes);
          return allocate(lengthBytes);
        },
      });
    } catch (thrown) {
      this.#direct.delete(connection);
      signal?.throwIfAborted();
      throw this.#unreachable(thrown);
    }
  }

  #freeDirect(timeoutMs: number): DirectConnection {
    for (const connection of this.#direct) {
      if (connection.isIdle) return connection;
    }
    const connection = new DirectConnection({ url: this.#base, ca: this.#ca, timeoutMs });
    this.#direct.add(connection);
    return connection;
  }

  /** Closes the connections that are kept open. */
  [Symbol.dispose](): void {
    for (const connection of this.#direct) connection[Symbol.dispose]();
    this.#direct.clear();
    this.#agent.destroy();
  }

  async #once(call: HttpCall): Promise<IncomingMessage> {
    const url = this.#url(call);
    const headers: Record<string, string | number> = { ...call.headers };
    if (Array.isArray(call.body)) {
      headers['content-length'] = call.body.reduce((sum, part) => sum + part.byteLength, 0);
    }
    const send = url.protocol === 'https:' ? httpsRequest : http.request;
    const request = send(url, {
      method: call.method,
      headers,
      agent: this.#agent,
      ...(call.signal === undefined ? {} : { signal: call.signal }),
    });
    request.setTimeout(call.timeoutMs, () => {
      request.destroy(new Error(`no answer within ${call.timeoutMs / 1000} s`));
    });
    const answered = new Promise<IncomingMessage>((resolve, reject) => {
      request.once('response', resolve);
      request.once('error', reject);
    });
    const sent = writeBody(request, call.body);
    // A refusal may come while the body is still being sent: the answer then says more.
    const answer = await Promise.race([answered, sent.then(() => answered)]);
    request.setTimeout(0);
    request.on('error', () => undefined);
    sent.catch(() => undefined);
    return answer;
  }

  #url({ path }: Pick<HttpCall, 'path'>): URL {
    return new URL(path.replace(/^\//, ''), this.#base);
  }

  #unreachable(cause: unknown): IngotError {
    if (cause instanceof IngotError) return cause;
    const reason = errnoOf(cause) ?? (cause instanceof Error ? cause.message : String(cause));
    return new IngotError(
      'daemon-unreachable',
      `no answer from ${this.url}: ${reason}`,
      { url: this.url },
      { cause },
    );
  }
}

/**
 * Reads an answer's body into memory.
 *
 * @param allocate gives memory of exactly a length, for answers that are long
 * @throws IngotError `daemon-protocol` when it is too long, `daemon-unreachable` when it breaks off
 */
export async function readAnswer(
  answer: IncomingMessage,
  allocate: (lengthBytes: number) => Buffer = (lengthBytes) => Buffer.allocUnsafeSlow(lengthBytes),
): Promise<Buffer> {
  const announcedBytes = Number(answer.headers['content-length']);
  try {
    if (announcedBytes > LONG_BYTES) return await readLongAnswer(answer, announcedBytes, allocate);
    const pieces: Buffer[] = [];
    let count = 0;
    for await (const piece of answer) {
      const bytes = piece as Buffer;
      count += bytes.byteLength;
      refuseLong(count);
      pieces.push(bytes);
    }
    return Buffer.concat(pieces);
  } catch (cause) {
    if (cause instanceof IngotError) throw cause;
    throw new IngotError('daemon-unreachable', 'the answer broke off', {}, { cause });
  }
}

/** Reads a body of known length into one buffer, and gives back the memory that it came in. */
async function readLongAnswer(
  answer: IncomingMessage,
  lengthBytes: number,
  allocate: (lengthBytes: number) => Buffer,
): Promise<Buffer> {
  refuseLong(lengthBytes);
  const body = allocate(lengthBytes);
  let done = 0;
  for await (const piece of answer) {
    const bytes = piece as Buffer;
    // Node has checked that no more comes than was announced.
    done += bytes.copy(body, done);
    // Each read of a socket has memory of its own. Left to the collector, every 64 MB of it would
    // cost a walk through the whole heap.
    releaseMemory(bytes);
  }
  if (done < lengthBytes) throw new Error(`${done} of ${lengthBytes} bytes came`);
  return body;
}

function refuseLong(lengthBytes: number): void {
  if (lengthBytes <= MAX_ANSWER_BYTES) return;
  throw new IngotError('daemon-protocol', `an answer is above ${MAX_ANSWER_BYTES} bytes`);
}

async function writeBody(request: ClientRequest, body: HttpCall['body']): Promise<void> {
  if (body === undefined) {
    request.end();
    return;
  }
  if (!isStream(body)) {
    for (const part of body) request.write(part);
    request.end();
    return;
  }
  const closed = new AbortController();
  request.once('close', () => closed.abort());
  try {
    for await (const part of body) {
      if (request.destroyed) return;
      if (!request.write(part)) await once(request, 'drain', { signal: closed.signal });
    }
    request.end();
  } catch (thrown) {
    if (closed.signal.aborted) return;
    request.destroy(thrown instanceof Error ? thrown : new Error(String(thrown)));
    throw thrown;
  }
}

function isStream(body: HttpCall['body']): body is AsyncIterable<Uint8Array> {
  return body !== undefined && Symbol.asyncIterator in body;
}

/** Certificates and names do not become right by asking again. */
function isFinal(thrown: unknown): boolean {
  const code = errnoOf(thrown) ?? '';
  return (
    thrown instanceof IngotError ||
    /^(ERR_TLS|CERT_|DEPTH_|SELF_SIGNED|UNABLE_TO|ENOTFOUND)/.test(code)
  );
}

function readAuthority(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new IngotError('settings-invalid', `${path} cannot be read`, { path }, { cause });
  }
}
