import { type Id, IngotError } from '../../base/index.ts';
import type { ApiClient, DirectoryLibrary } from '../../keep/index.ts';
import type { Caller, NativeClients } from '../../serve/index.ts';

/** API clients that an account may have: lists stay short, and a loop that makes them ends. */
const MAX_CLIENTS = 1000;

/** The library's API clients, as the native API asks for them. */
export function libraryClients(accounts: DirectoryLibrary['accounts']): NativeClients {
  const show = async ({ accountId }: Caller, clientId: Id<'cli'>): Promise<ApiClient> => {
    const client = await accounts.client(clientId);
    if (client?.accountId === accountId) return client;
    throw new IngotError('client-not-found', `there is no API client ${clientId}`, { clientId });
  };
  return {
    authenticate: async (clientId, secret) => {
      const found = await accounts.authenticate(clientId, secret);
      return found === undefined ? undefined : { clientId: found.id, accountId: found.accountId };
    },
    isKnown: async ({ clientId }) => (await accounts.client(clientId)) !== undefined,
    list: ({ accountId }) => accounts.clients(accountId),
    show,
    create: async ({ accountId }, name) => {
      const account = (await accounts.accounts()).find(({ id }) => id === accountId);
      if (account === undefined) throw new Error(`${accountId} asks and is not there`);
      const count = (await accounts.clients(accountId)).length;
      if (count >= MAX_CLIENTS) {
        throw new IngotError('not-allowed', `${accountId} has ${count} API clients already`, {
          count,
        });
      }
      return await accounts.addClient(account, name);
    },
    destroy: async (caller, clientId) => {
      const client = await show(caller, clientId);
      if (clientId === caller.clientId) {
        throw new IngotError('not-allowed', `${clientId} cannot destroy itself`, { clientId });
      }
      await accounts.revoke(clientId);
      return client;
    },
  };
}
