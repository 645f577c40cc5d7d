import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { bytesOf, ingest, segmentOf } from '../../../../test/contracts/ingest-session.ts';
import { readDisk } from '../../../../test/contracts/test-library.ts';
import { runCli } from '../../../../test/fakes/cli-run.ts';
import { silentLog, systemClock } from '../../../base/index.ts';
import type { DirectoryLibrary } from '../../../keep/index.ts';
import { openDirectoryLibrary } from '../../daemon/open-library.ts';

const folder = mkdtempSync(join(tmpdir(), 'ingot-library-transfer-'));
after(() => rmSync(folder, { recursive: true }));
const at = (name: string): string => join(folder, name);

/** Opens a library with an account, makes it when it is not there, and closes it again. */
async function withLibrary<T>(
  name: string,
  work: (library: DirectoryLibrary, account: `acc-${string}`) => Promise<T>,
): Promise<T> {
  mkdirSync(at(name), { recursive: true });
  const options = { engine: 'zlib', clock: systemClock, log: silentLog } as const;
  await using opened = await openDirectoryLibrary(at(name), options);
  const { accounts } = opened.library;
  await accounts.bootstrap();
  return await work(opened.library, (await accounts.accounts())[0]?.id ?? 'acc-00000');
}

const [id, disk] = await withLibrary('one', async (library, account) => {
  const view = library.forAccount(account);
  const made = await ingest(view, 'web', [segmentOf(bytesOf(1, 90_000)), 70_000]);
  return [made.id, await readDisk(view, made.id)];
});
await withLibrary('two', async () => undefined);

const run = (...words: readonly string[]) => runCli(['library', ...words], {});

describe('ingot library export and import', () => {
  test('carry an image to a library that trusts the other one', async () => {
    const exported = await run('export', id, '--data', at('one'), '-o', at('usb'), '--json');
    assert.equal(exported.status, 0, exported.stderr);
    const said = JSON.parse(exported.stdout) as { folder: string; public_key: string };
    assert.equal(said.folder, at(`usb/${id}`));
    assert.deepEqual(readdirSync(at('usb')), [id]);
    const words = ['import', said.folder, '--data', at('two')];
    assert.equal((await run(...words)).status, 24);
    const imported = await run(...words, '--trust', said.public_key);
    assert.equal(imported.status, 0, imported.stderr);
    await withLibrary('two', async (library, account) => {
      const taken = await readDisk(library.forAccount(account), imported.stdout.trim() as 'img-');
      assert.ok(taken.equals(disk));
    });
  });

  test('leave nothing behind when they are refused', async () => {
    const twice = ['export', id, '--data', at('one'), '-o', at('twice')];
    assert.equal((await run(...twice)).status, 0);
    assert.equal((await run(...twice)).status, 54);
    assert.equal((await run('export', 'img-zzzzz', ...twice.slice(2))).status, 30);
    assert.deepEqual(readdirSync(at('twice')), [id]);
    assert.equal((await run('import', at('twice'), '--data', at('two'))).status, 43);
    assert.equal((await run('import', at('x'), '--data', at('two'), '--trust', 'y')).status, 2);
  });

  test('are refused while a daemon has the library', async () => {
    await withLibrary('one', async () => {
      const refused = await run('export', id, '--data', at('one'), '-o', at('busy'));
      assert.equal(refused.status, 25, refused.stderr);
    });
  });
});
