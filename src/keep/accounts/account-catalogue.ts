import type { Id } from '../../base/index.ts';

/** Who owns images. */
export interface Account {
  readonly id: Id<'acc'>;
  readonly name: string;
  /** ms since 1970. */
  readonly createdAt: number;
}

/** What acts for an account: a program or person with a secret. */
export interface ApiClient {
  readonly id: Id<'cli'>;
  readonly accountId: Id<'acc'>;
  readonly name: string;
  /** SHA-256 of the secret, as hex. */
  readonly secretHash: string;
  /** ms since 1970. */
  readonly createdAt: number;
  readonly isRevoked: boolean;
}

/** The part of the catalogue that accounts need. */
export interface AccountCatalogue {
  /** @returns false when the id was used before */
  addAccount(account: Account): Promise<boolean>;
  accounts(): Promise<Account[]>;
  /** @returns false when the id was used before */
  addClient(client: ApiClient): Promise<boolean>;
  client(clientId: string): Promise<ApiClient | undefined>;
  /** @returns those that are not revoked, the oldest first */
  clients(accountId: Id<'acc'>): Promise<ApiClient[]>;
  updateClient(
    clientId: string,
    changes: Partial<Pick<ApiClient, 'name' | 'secretHash' | 'isRevoked'>>,
  ): Promise<void>;
}
