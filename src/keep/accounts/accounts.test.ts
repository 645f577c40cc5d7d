import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { systemClock } from '../../base/index.ts';
import { memoryCatalogue } from '../adapters/sqlite-catalogue.ts';
import { Accounts } from './accounts.ts';

describe('accounts', () => {
  test('the first start makes one account and one client, the second none', async () => {
    await using catalogue = memoryCatalogue();
    const accounts = new Accounts(catalogue, systemClock);
    const first = await accounts.bootstrap();
    assert.ok(first !== undefined);
    assert.equal(await accounts.bootstrap(), undefined);
    assert.deepEqual(await accounts.accounts(), [first.account]);
    const found = await accounts.authenticate(first.client.id, first.secret);
    assert.equal(found?.accountId, first.account.id);
  });

  test('the secret is not kept', async () => {
    await using catalogue = memoryCatalogue();
    const made = await new Accounts(catalogue, systemClock).bootstrap();
    const kept = JSON.stringify(await catalogue.client(made?.client.id ?? ''));
    assert.ok(made !== undefined && !kept.includes(made.secret));
  });

  test('a wrong secret, an unknown client, an old secret and a revoked client are refused', async () => {
    await using catalogue = memoryCatalogue();
    const accounts = new Accounts(catalogue, systemClock);
    const made = await accounts.bootstrap();
    assert.ok(made !== undefined);
    const { id } = made.client;
    assert.equal(await accounts.authenticate(id, `${made.secret}x`), undefined);
    assert.equal(await accounts.authenticate('cli-zzzzz', made.secret), undefined);
    assert.equal(await accounts.authenticate("' OR 1=1", made.secret), undefined);
    const renewed = await accounts.renewSecret(id);
    assert.equal(await accounts.authenticate(id, made.secret), undefined);
    assert.equal((await accounts.authenticate(id, renewed))?.id, id);
    await accounts.revoke(id);
    assert.equal(await accounts.authenticate(id, renewed), undefined);
    assert.equal(await accounts.client(id), undefined);
  });
});
