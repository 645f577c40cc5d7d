import type { FastifyRequest } from 'fastify';
import { type Clock, IngotError } from '../../base/index.ts';
import { AttemptLimit } from './attempt-limit.ts';
import type { Caller, NativeBackend } from './backend.ts';
import type { TokenIssuer } from './tokens.ts';

const MAX_TOKEN_CHARACTERS = 4096;

/** Decides who a request comes from. */
export class Access {
  readonly #backend: NativeBackend;
  readonly #tokens: TokenIssuer;
  readonly #attempts: AttemptLimit;
  readonly #callers = new WeakMap<FastifyRequest, Caller>();

  constructor(backend: NativeBackend, tokens: TokenIssuer, clock: Clock) {
    this.#backend = backend;
    this.#tokens = tokens;
    this.#attempts = new AttemptLimit(clock);
  }

  /**
   * Exchanges a client's secret for a token.
   *
   * @throws IngotError `not-authorized`, `too-many-requests`
   */
  async exchange(clientId: string, secret: string, address: string): Promise<string> {
    this.#attempts.check({ clientId, address });
    const caller = await this.#backend.clients.authenticate(clientId, secret);
    if (caller === undefined) {
      this.#attempts.failed({ clientId, address });
      throw new IngotError('not-authorized', 'the client id or its secret is wrong');
    }
    return this.#tokens.issue(caller);
  }

  /**
   * Reads the bearer token of a request and remembers who it is; the hook of every closed route.
   *
   * @throws IngotError `not-authorized`
   */
  async admit(request: FastifyRequest): Promise<void> {
    const match = /^Bearer ([\w.~+/=-]+)$/i.exec(request.headers.authorization ?? '');
    const token = match?.[1];
    if (token === undefined || token.length > MAX_TOKEN_CHARACTERS) {
      throw new IngotError('not-authorized', 'the request has no bearer token');
    }
    const caller = await this.#tokens.read(token);
    if (!(await this.#backend.clients.isKnown(caller))) {
      throw new IngotError('not-authorized', `${caller.clientId} is no client any more`);
    }
    this.#callers.set(request, caller);
  }

  /** @returns who was admitted with this request */
  caller(request: FastifyRequest): Caller {
    const caller = this.#callers.get(request);
    if (caller === undefined) throw new Error(`${request.url} was answered before it was admitted`);
    return caller;
  }
}
