import { createSecretKey, hash, type KeyObject } from 'node:crypto';
import { CompactSign, compactVerify } from 'jose';
import { z } from 'zod';
import { type Clock, IngotError, isId } from '../../base/index.ts';
import type { Caller } from './backend.ts';

/** How long a token is good for, in seconds. */
export const TOKEN_SECONDS = 3600;

/** Tokens whose signatures are remembered: more clients than are busy at once. */
const MAX_REMEMBERED = 256;

const AUDIENCE = 'ingot-native-1';

const claimsSchema = z.object({
  sub: z.custom<Caller['clientId']>((id) => typeof id === 'string' && isId('cli', id)),
  acc: z.custom<Caller['accountId']>((id) => typeof id === 'string' && isId('acc', id)),
  aud: z.literal(AUDIENCE),
  exp: z.number(),
});

/** Makes and reads the tokens of the native API: signed JWTs, short-lived, without a table. */
export class TokenIssuer {
  readonly #key: KeyObject;
  readonly #clock: Clock;
  /** Signatures that were right, by the digest of their token: an import asks hundreds of times. */
  readonly #remembered = new Map<string, { readonly caller: Caller; readonly endsAt: number }>();

  /** @param secret at least 32 random bytes that stay on this machine */
  constructor(secret: Uint8Array, clock: Clock) {
    if (secret.byteLength < 32) throw new RangeError('a token secret has at least 32 bytes');
    this.#key = createSecretKey(secret);
    this.#clock = clock;
  }

  /** Makes a token for a client that has proven its secret. */
  issue(caller: Caller): Promise<string> {
    const claims: z.infer<typeof claimsSchema> = {
      sub: caller.clientId,
      acc: caller.accountId,
      aud: AUDIENCE,
      exp: Math.floor(this.#clock.now() / 1000) + TOKEN_SECONDS,
    };
    return new CompactSign(Buffer.from(JSON.stringify(claims)))
      .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
      .sign(this.#key);
  }

  /**
   * Reads who a token stands for.
   *
   * @throws IngotError `not-authorized` for whatever is wrong with it
   */
  async read(token: string): Promise<Caller> {
    const name = hash('sha256', token, 'base64');
    const known = this.#remembered.get(name) ?? (await this.#verified(token));
    this.#remembered.delete(name);
    if (known.endsAt <= this.#clock.now()) {
      throw new IngotError('not-authorized', 'the token has expired');
    }
    this.#remembered.set(name, known);
    for (const oldest of this.#remembered.keys()) {
      if (this.#remembered.size <= MAX_REMEMBERED) break;
      this.#remembered.delete(oldest);
    }
    return known.caller;
  }

  async #verified(token: string): Promise<{ readonly caller: Caller; readonly endsAt: number }> {
    const refuse = (cause?: unknown): IngotError =>
      new IngotError('not-authorized', 'the token is not valid', {}, { cause });
    const { payload } = await compactVerify(token, this.#key, { algorithms: ['HS256'] }).catch(
      (cause: unknown) => {
        throw refuse(cause);
      },
    );
    const claims = claimsSchema.safeParse(JSON.parse(Buffer.from(payload).toString('utf8')));
    if (!claims.success) throw refuse(claims.error);
    const { sub: clientId, acc: accountId, exp } = claims.data;
    return { caller: { clientId, accountId }, endsAt: exp * 1000 };
  }
}
