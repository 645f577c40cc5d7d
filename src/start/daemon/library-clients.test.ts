import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isFailure, systemClock } from '../../base/index.ts';
import { Accounts } from '../../keep/accounts/accounts.ts';
import { memoryCatalogue } from '../../keep/adapters/sqlite-catalogue.ts';
import { libraryClients } from './library-clients.ts';

const isMissing = (thrown: unknown): boolean => isFailure(thrown, 'client-not-found');
const isRefused = (thrown: unknown): boolean => isFailure(thrown, 'not-allowed');

async function twoAccounts(accounts: Accounts) {
  const [own, foreign] = [await accounts.addAccount('own'), await accounts.addAccount('foreign')];
  const callerOf = async (account: typeof own) => {
    const { client } = await accounts.addClient(account, 'first');
    return { clientId: client.id, accountId: account.id };
  };
  return { own: await callerOf(own), foreign: await callerOf(foreign) };
}

describe('API clients of a library', () => {
  test('belong to one account: another neither sees nor destroys them', async () => {
    await using catalogue = memoryCatalogue();
    const accounts = new Accounts(catalogue, systemClock);
    const clients = libraryClients(accounts);
    const { own, foreign } = await twoAccounts(accounts);
    const { client, secret } = await clients.create(own, 'build');
    const ids = (await clients.list(own)).map(({ id }) => id);
    assert.deepEqual(ids.toSorted(), [own.clientId, client.id].toSorted());
    assert.equal((await clients.list(foreign)).length, 1);
    await assert.rejects(clients.show(foreign, client.id), isMissing);
    await assert.rejects(clients.destroy(foreign, client.id), isMissing);
    assert.deepEqual(await clients.authenticate(client.id, secret), {
      clientId: client.id,
      accountId: own.accountId,
    });
  });

  test('are gone once they are destroyed, and none destroys itself', async () => {
    await using catalogue = memoryCatalogue();
    const accounts = new Accounts(catalogue, systemClock);
    const clients = libraryClients(accounts);
    const { own } = await twoAccounts(accounts);
    const { client, secret } = await clients.create(own, 'build');
    await assert.rejects(clients.destroy(own, own.clientId), isRefused);
    assert.equal((await clients.destroy(own, client.id)).name, 'build');
    assert.equal(await clients.authenticate(client.id, secret), undefined);
    await assert.rejects(clients.show(own, client.id), isMissing);
    await assert.rejects(clients.destroy(own, client.id), isMissing);
    assert.equal((await clients.list(own)).length, 1);
  });

  test('are at most a thousand of an account', async () => {
    await using catalogue = memoryCatalogue();
    const accounts = new Accounts(catalogue, systemClock);
    const clients = libraryClients(accounts);
    const { own, foreign } = await twoAccounts(accounts);
    for (let i = 1; i < 1000; i++) {
      await accounts.addClient({ id: own.accountId, name: 'own', createdAt: 0 }, `${i}`);
    }
    await assert.rejects(clients.create(own, 'one more'), isRefused);
    await clients.create(foreign, 'one more');
  });
});
