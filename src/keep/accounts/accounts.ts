import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { type Clock, type Id, IngotError, isId, newId } from '../../base/index.ts';
import type { Account, AccountCatalogue, ApiClient } from './account-catalogue.ts';

/** A client with its secret, which nobody can be shown again. */
export interface NewClient {
  readonly account: Account;
  readonly client: ApiClient;
  readonly secret: string;
}

/** The most characters of a secret that are looked at. */
const MAX_SECRET = 256;

/** Who owns images, and what may act for them. */
export class Accounts {
  readonly #catalogue: AccountCatalogue;
  readonly #clock: Clock;

  constructor(catalogue: AccountCatalogue, clock: Clock) {
    this.#catalogue = catalogue;
    this.#clock = clock;
  }

  /**
   * Makes the first account and its client.
   *
   * @returns undefined when there are accounts already
   */
  async bootstrap(): Promise<NewClient | undefined> {
    if ((await this.#catalogue.accounts()).length > 0) return undefined;
    return await this.addClient(await this.addAccount('default'), 'local');
  }

  async accounts(): Promise<Account[]> {
    return await this.#catalogue.accounts();
  }

  async addAccount(name: string): Promise<Account> {
    checkName(name);
    for (;;) {
      const account = { id: newId('acc'), name, createdAt: this.#clock.now() };
      if (await this.#catalogue.addAccount(account)) return account;
    }
  }

  /** @returns the account's clients that are not revoked, the oldest first */
  async clients(accountId: Id<'acc'>): Promise<ApiClient[]> {
    return await this.#catalogue.clients(accountId);
  }

  async addClient(account: Account, name: string): Promise<NewClient> {
    checkName(name);
    const secret = newSecret();
    for (;;) {
      const client: ApiClient = {
        id: newId('cli'),
        accountId: account.id,
        name,
        secretHash: hashOf(secret),
        createdAt: this.#clock.now(),
        isRevoked: false,
      };
      if (await this.#catalogue.addClient(client)) return { account, client, secret };
    }
  }

  /** Gives a client a new secret; the old one is worth nothing from now on. */
  async renewSecret(clientId: Id<'cli'>): Promise<string> {
    const secret = newSecret();
    await this.#catalogue.updateClient(clientId, { secretHash: hashOf(secret) });
    return secret;
  }

  async revoke(clientId: Id<'cli'>): Promise<void> {
    await this.#catalogue.updateClient(clientId, { isRevoked: true });
  }

  /** @returns the client, if it exists, is not revoked, and this is its secret */
  async authenticate(clientId: string, secret: string): Promise<ApiClient | undefined> {
    const client = isId('cli', clientId) ? await this.#catalogue.client(clientId) : undefined;
    // Compared in the same time for an unknown client, so that ids cannot be probed.
    const expected = Buffer.from(client?.secretHash ?? '0'.repeat(64), 'hex');
    const isRight = timingSafeEqual(
      Buffer.from(hashOf(secret.slice(0, MAX_SECRET)), 'hex'),
      expected,
    );
    return client !== undefined && isRight && !client.isRevoked ? client : undefined;
  }

  /** @returns the client as long as it exists and is not revoked: for tokens it was given before */
  async client(clientId: string): Promise<ApiClient | undefined> {
    const client = isId('cli', clientId) ? await this.#catalogue.client(clientId) : undefined;
    return client?.isRevoked === false ? client : undefined;
  }
}

function newSecret(): string {
  return randomBytes(32).toString('base64url');
}

/**
 * Plain SHA-256 is right here, and argon2 would not be: the secret is 256 random bits that nobody
 * chose, so there is nothing to guess slowly, and every request may be checked.
 */
function hashOf(secret: string): string {
  return createHash('sha256').update(secret).digest('hex');
}

function checkName(name: string): void {
  if (name.length < 1 || name.length > 256) {
    throw new IngotError('request-invalid', `a name has 1 to 256 characters, not ${name.length}`);
  }
}
