import type { IncomingMessage } from 'node:http';
import { z } from 'zod';
import { type Id, IngotError, isFailure, isFailureCode } from '../../base/index.ts';
import type { Image, ImageStatus } from '../../keep/index.ts';
import {
  BYTES_MEDIA_TYPE,
  digestSchema,
  failureSchema,
  type imageChangeSchema,
  imageFromWire,
  imagePageSchema,
  imageSchema,
  NATIVE_PREFIX,
} from '../../serve/index.ts';
import type { Profile } from '../settings/profiles.ts';
import { type HttpCall, HttpConnection, readAnswer } from './http-connection.ts';

/** Longest silence before an answer; what takes longer is a job or says so. */
const TIMEOUT_MS = 120_000;
/** A disk that has to be read back first. */
const READ_BACK_TIMEOUT_MS = 4 * 60 * 60_000;
/** A token is renewed so long before it ends. */
const RENEW_BEFORE_MS = 60_000;

const tokenSchema = z.object({ access_token: z.string(), expires_in: z.number() });

/** A call of the native API; what is left out has a default. */
export interface ApiCall {
  readonly method: HttpCall['method'];
  /** Path below `/api/ingot/v1`. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: HttpCall['body'];
  readonly timeoutMs?: number;
  /** By default every method but POST. */
  readonly isIdempotent?: boolean;
  /** Makes the call even when the command was cancelled: to take back what it began. */
  readonly isCleanup?: boolean;
}

/** The native API of one daemon, with one profile. */
export class DaemonClient implements Disposable {
  readonly #profile: Profile;
  readonly #connection: HttpConnection;
  readonly #signal: AbortSignal | undefined;
  #isLengthless = false;
  #token: { readonly text: string; readonly renewAt: number } | undefined;
  #asking: Promise<string> | undefined;

  /** @param signal ends every call of this client */
  constructor(profile: Profile, signal: AbortSignal | undefined) {
    this.#profile = profile;
    this.#connection = new HttpConnection(profile.url, profile.ca);
    this.#signal = signal;
  }

  /** The daemon's base URL. */
  get url(): string {
    return this.#connection.url;
  }

  /** Aborts when the command is cancelled. */
  get signal(): AbortSignal | undefined {
    return this.#signal;
  }

  /** Gets a token, which proves the profile. */
  async login(): Promise<void> {
    this.#token = undefined;
    await this.#bearer();
  }

  /**
   * Makes a call with a token.
   *
   * @returns a success with its body unread: read it or destroy it
   * @throws IngotError the failure that the daemon answered, `daemon-unreachable`, `daemon-protocol`
   */
  async call(call: ApiCall): Promise<IncomingMessage> {
    const answer = await this.#send(call);
    if (answer.statusCode !== 401 || isStream(call.body)) return succeed(answer);
    // The daemon may have a new key: one new token is worth a try.
    answer.resume();
    this.#token = undefined;
    return succeed(await this.#send(call));
  }

  /**
   * Makes a GET over a connection of its own: for large answers with a length.
   *
   * @throws Error when it breaks off before an answer
   */
  async openDirect(
    path: string,
    headers: Readonly<Record<string, string>>,
  ): ReturnType<HttpConnection['openDirect']> {
    return await this.#connection.openDirect({
      path: `${NATIVE_PREFIX}${path}`,
      headers: { ...headers, authorization: `Bearer ${await this.#bearer()}` },
      timeoutMs: TIMEOUT_MS,
      signal: this.#signal,
    });
  }

  /**
   * Makes a POST that may be made twice and is answered with bytes, which are received where they
   * are wanted.
   *
   * @param allocate gives memory of exactly a length, for answers that are long
   * @throws IngotError as {@link call}
   */
  async bytes(
    path: string,
    body: Buffer,
    allocate: (lengthBytes: number) => Buffer,
  ): Promise<Buffer> {
    const contentType = { 'content-type': BYTES_MEDIA_TYPE };
    if (!this.#isLengthless) {
      try {
        let reply = await this.#postInto(path, { headers: contentType, body, allocate });
        if (reply.head.statusCode === 401) {
          this.#token = undefined;
          reply = await this.#postInto(path, { headers: contentType, body, allocate });
        }
        const { statusCode } = reply.head;
        if (statusCode >= 200 && statusCode < 300) return reply.body;
        throw failureOf(statusCode, reply.body);
      } catch (thrown) {
        // A proxy in between may send answers without a length. A daemon that cannot be reached may
        // be starting: the ordinary call waits for it.
        if (isFailure(thrown, 'daemon-protocol')) this.#isLengthless = true;
        else if (!isFailure(thrown, 'daemon-unreachable')) throw thrown;
      }
    }
    const call: ApiCall = { method: 'POST', path, headers: contentType, body: [body] };
    return await readAnswer(await this.call({ ...call, isIdempotent: true }), allocate);
  }

  async #postInto(
    path: string,
    {
      headers,
      body,
      allocate,
    }: {
      readonly headers: Readonly<Record<string, string>>;
      readonly body: Buffer;
      readonly allocate: (lengthBytes: number) => Buffer;
    },
  ): ReturnType<HttpConnection['postInto']> {
    return await this.#connection.postInto(
      {
        path: `${NATIVE_PREFIX}${path}`,
        headers: { ...headers, authorization: `Bearer ${await this.#bearer()}` },
        body,
        timeoutMs: TIMEOUT_MS,
        signal: this.#signal,
      },
      allocate,
    );
  }

  /** Makes a call that is answered with JSON of this shape. */
  async json<T>(shape: z.ZodType<T>, call: ApiCall, body?: unknown): Promise<T> {
    const answer = await this.call(
      body === undefined
        ? call
        : {
            ...call,
            headers: { 'content-type': 'application/json' },
            body: [Buffer.from(JSON.stringify(body))],
          },
    );
    return parseAs(shape, await readAnswer(answer));
  }

  /**
   * Yields all images that the profile may see, in the order of their ids.
   *
   * @param status only those in this state; those that can be read when it is not given
   */
  async *images(statuses: readonly ImageStatus[] = []): AsyncGenerator<Image, void, undefined> {
    const query = new URLSearchParams();
    for (const status of statuses) query.append('status', status);
    for (;;) {
      const path = query.size === 0 ? '/images' : `/images?${query.toString()}`;
      const page = await this.json(imagePageSchema, { method: 'GET', path });
      for (const image of page.images) yield imageFromWire(image);
      if (page.next === null) return;
      query.set('after', page.next);
    }
  }

  /** @throws IngotError `image-not-found` */
  async image(id: Id<'img'>): Promise<Image> {
    return imageFromWire(await this.json(imageSchema, { method: 'GET', path: `/images/${id}` }));
  }

  /**
   * Gives the SHA-256 of an image's plain disk. The daemon reads it back when nobody did before,
   * which takes as long as reading takes.
   */
  async imageDigest(id: Id<'img'>): Promise<string> {
    const call: ApiCall = { method: 'POST', path: `/images/${id}/digest`, isIdempotent: true };
    const { sha256 } = await this.json(digestSchema, { ...call, timeoutMs: READ_BACK_TIMEOUT_MS });
    return sha256;
  }

  /** @throws IngotError `image-not-found`, `not-allowed` */
  async updateImage(id: Id<'img'>, change: z.input<typeof imageChangeSchema>): Promise<Image> {
    const call: ApiCall = { method: 'PATCH', path: `/images/${id}` };
    return imageFromWire(await this.json(imageSchema, call, change));
  }

  /** @throws IngotError `image-not-found`, `not-allowed` */
  async setImageLocked(id: Id<'img'>, isLocked: boolean): Promise<Image> {
    const path = `/images/${id}/${isLocked ? 'lock' : 'unlock'}`;
    return imageFromWire(
      await this.json(imageSchema, { method: 'POST', path, isIdempotent: true }),
    );
  }

  /** @throws IngotError `image-not-found`, `image-in-use`, `not-allowed` */
  async destroyImage(id: Id<'img'>): Promise<Image> {
    return imageFromWire(await this.json(imageSchema, { method: 'DELETE', path: `/images/${id}` }));
  }

  /** Closes the connections. */
  [Symbol.dispose](): void {
    this.#connection[Symbol.dispose]();
  }

  async #send(call: ApiCall): Promise<IncomingMessage> {
    return this.#connection.call({
      method: call.method,
      path: `${NATIVE_PREFIX}${call.path}`,
      headers: { ...call.headers, authorization: `Bearer ${await this.#bearer()}` },
      ...(call.body === undefined ? {} : { body: call.body }),
      timeoutMs: call.timeoutMs ?? TIMEOUT_MS,
      isIdempotent: call.isIdempotent ?? call.method !== 'POST',
      signal: call.isCleanup === true ? undefined : this.#signal,
    });
  }

  /** Calls that are made at once wait for one token. */
  async #bearer(): Promise<string> {
    if (this.#token !== undefined && performance.now() < this.#token.renewAt) {
      return this.#token.text;
    }
    this.#asking ??= this.#askForToken().finally(() => {
      this.#asking = undefined;
    });
    return await this.#asking;
  }

  async #askForToken(): Promise<string> {
    const { client, secret } = this.#profile;
    const answer = await this.#connection.call({
      method: 'POST',
      path: `${NATIVE_PREFIX}/token`,
      headers: { 'content-type': 'application/json' },
      body: [Buffer.from(JSON.stringify({ client_id: client, client_secret: secret }))],
      timeoutMs: TIMEOUT_MS,
      isIdempotent: true,
      signal: this.#signal,
    });
    const made = parseAs(tokenSchema, await readAnswer(await succeed(answer)));
    const renewAt = performance.now() + made.expires_in * 1000 - RENEW_BEFORE_MS;
    this.#token = { text: made.access_token, renewAt };
    return made.access_token;
  }
}

/** @throws IngotError the failure in the answer, unless it is a success */
async function succeed(answer: IncomingMessage): Promise<IncomingMessage> {
  const status = answer.statusCode ?? 0;
  if (status >= 200 && status < 400) return answer;
  throw failureOf(status, await readAnswer(answer));
}

function failureOf(status: number, body: Buffer): IngotError {
  const parsed = failureSchema.safeParse(jsonOrUndefined(body));
  if (!parsed.success) {
    return new IngotError('daemon-protocol', `the daemon answered ${status} without a reason`, {
      status,
    });
  }
  const { code, message, facts } = parsed.data.error;
  if (isFailureCode(code)) return new IngotError(code, message, facts);
  return new IngotError('daemon-protocol', `the daemon answered ${status}: ${message}`, { status });
}

function parseAs<T>(shape: z.ZodType<T>, body: Buffer): T {
  const parsed = shape.safeParse(jsonOrUndefined(body));
  if (parsed.success) return parsed.data;
  throw new IngotError(
    'daemon-protocol',
    'the daemon answered something unknown',
    {},
    {
      cause: parsed.error,
    },
  );
}

function jsonOrUndefined(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'));
  } catch {
    return undefined;
  }
}

function isStream(body: HttpCall['body']): boolean {
  return body !== undefined && Symbol.asyncIterator in body;
}
