import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { bytesOf, ingest, segmentOf } from '../../../test/contracts/ingest-session.ts';
import { ACCOUNT, FOREIGN, openTestLibrary } from '../../../test/contracts/test-library.ts';
import type { Log, LogFacts } from '../../base/index.ts';

function loseState(folder: string): Promise<void> {
  for (const ending of ['', '-wal', '-shm'])
    rmSync(join(folder, `state.db${ending}`), { force: true });
  return Promise.resolve();
}

describe('a lost state.db', () => {
  test('is said at the start, with what can come back', async () => {
    const said: { words: string; facts: LogFacts | undefined }[] = [];
    const error: Log['error'] = (words, facts) => void said.push({ words, facts });
    const log: Log = {
      debug: () => undefined,
      info: () => undefined,
      warn: () => undefined,
      error,
    };
    await using test = await openTestLibrary({ log });
    await test.library.accounts.addAccount('default');
    await ingest(test.account, 'one', [segmentOf(bytesOf(1, 5000))]);
    await test.library.backup();
    await test.whileClosed(async () => undefined);
    assert.equal(said.length, 0);
    await test.whileClosed(loseState);
    const [lost] = said;
    assert.match(lost?.words ?? '', /^state.db is lost/);
    assert.equal(lost?.facts?.['images'], 1);
    assert.match(String(lost?.facts?.['newestBackup']), /^state-\d{15}\.db$/);
    assert.match(String(lost?.facts?.['help']), /ingot library rebuild/);
  });

  test('is made again as far as manifests know it: images, and accounts that own them', async () => {
    await using test = await openTestLibrary();
    const { id } = await ingest(test.account, 'one', [segmentOf(bytesOf(1, 5000))]);
    await ingest(test.library.forAccount(FOREIGN), 'two', [segmentOf(bytesOf(2, 5000))]);
    await test.whileClosed(loseState);
    // What a daemon does that is started before anybody reads the log.
    await test.library.accounts.addAccount('default');
    assert.deepEqual(await test.account.list(), []);
    await test.reopen({ isRebuild: true });
    assert.deepEqual(
      (await test.account.list()).map((image) => image.id),
      [id],
    );
    const accounts = await test.library.accounts.accounts();
    assert.deepEqual(
      accounts
        .slice(0, 2)
        .map((account) => account.id)
        .sort(),
      [ACCOUNT, FOREIGN],
    );
    assert.equal(accounts.length, 3);
  });
});
