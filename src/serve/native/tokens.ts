import { createSecretKey, type KeyObject } from 'node:crypto';
import { CompactSign, compactVerify } from 'jose';
import { z } from 'zod';
import { type Clock, IngotError, isId } from '../../base/index.ts';
import type { Caller } from './backend.ts';

/** How long a token is good for, in seconds. */
export const TOKEN_SECONDS = 3600;

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
    const refuse = (cause?: unknown): IngotError =>
      new IngotError('not-authorized', 'the token is not valid', {}, { cause });
    const { payload } = await compactVerify(token, this.#key, { algorithms: ['HS256'] }).catch(
      (cause: unknown) => {
        throw refuse(cause);
      },
    );
    const claims = claimsSchema.safeParse(JSON.parse(Buffer.from(payload).toString('utf8')));
    if (!claims.success) throw refuse(claims.error);
    if (claims.data.exp * 1000 <= this.#clock.now()) {
      throw new IngotError('not-authorized', 'the token has expired');
    }
    return { clientId: claims.data.sub, accountId: claims.data.acc };
  }
}
