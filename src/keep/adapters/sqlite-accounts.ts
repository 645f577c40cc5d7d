import type { Account, ApiClient } from '../accounts/account-catalogue.ts';
import type { SqliteConnection } from './sqlite-connection.ts';
import { accountOf, clientOf } from './sqlite-rows.ts';

/** The catalogue's calls for accounts and API clients. */
export function accountCalls(db: SqliteConnection) {
  return {
    addAccount(account: Account): boolean {
      return (
        db.run(
          'INSERT OR IGNORE INTO state.accounts VALUES (?, ?, ?)',
          account.id,
          account.name,
          account.createdAt,
        ) === 1
      );
    },

    accounts(): Account[] {
      return db.all('SELECT * FROM state.accounts ORDER BY created_at, id').map(accountOf);
    },

    addClient(client: ApiClient): boolean {
      return (
        db.run(
          'INSERT OR IGNORE INTO state.clients VALUES (?, ?, ?, ?, ?, ?)',
          client.id,
          client.accountId,
          client.name,
          client.secretHash,
          client.createdAt,
          Number(client.isRevoked),
        ) === 1
      );
    },

    client(clientId: string): ApiClient | undefined {
      const row = db.get('SELECT * FROM state.clients WHERE id = ?', clientId);
      return row === undefined ? undefined : clientOf(row);
    },

    clients(accountId: string): ApiClient[] {
      const living = 'SELECT * FROM state.clients WHERE account_id = ? AND is_revoked = 0';
      return db.all(`${living} ORDER BY created_at, id`, accountId).map(clientOf);
    },

    updateClient(
      clientId: string,
      changes: Partial<Pick<ApiClient, 'name' | 'secretHash' | 'isRevoked'>>,
    ): void {
      db.run(
        `UPDATE state.clients SET name = coalesce(?, name), secret_hash = coalesce(?, secret_hash),
           is_revoked = coalesce(?, is_revoked) WHERE id = ?`,
        changes.name ?? null,
        changes.secretHash ?? null,
        changes.isRevoked === undefined ? null : Number(changes.isRevoked),
        clientId,
      );
    },
  };
}
