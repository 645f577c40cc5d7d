import assert from 'node:assert/strict';
import { chownSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { bytesOf, ingest, segmentOf } from '../contracts/ingest-session.ts';
import { openTestLibrary } from '../contracts/test-library.ts';
import { runCli } from '../fakes/cli-run.ts';

const NOBODY = 65534;

describe('a data directory of another user', () => {
  test('is not opened by root, so that its daemon is not kept out', async () => {
    await using library = await openTestLibrary();
    await ingest(library.account, 'one', [segmentOf(bytesOf(1, 5000))]);
    await library.whileClosed(async (folder) => {
      const owners = (): number[] =>
        readdirSync(folder, { recursive: true, encoding: 'utf8' }).map(
          (name) => statSync(join(folder, name)).uid,
        );
      for (const name of ['.', ...readdirSync(folder, { recursive: true, encoding: 'utf8' })]) {
        chownSync(join(folder, name), NOBODY, NOBODY);
      }
      for (const argv of [
        ['library', 'rebuild', '--data', folder],
        ['library', 'export', 'img-aaaaa', '--data', folder, '-o', join(folder, 'out')],
      ]) {
        const { status, stderr } = await runCli(argv, {});
        assert.equal(status, 71, stderr);
        assert.match(stderr, /belongs to user 65534: run it as that user, such as with sudo -u/);
      }
      assert.deepEqual(new Set(owners()), new Set([NOBODY]));
      chownSync(folder, 0, 0);
      const { status, stderr } = await runCli(['library', 'rebuild', '--data', folder], {});
      assert.equal(status, 0, stderr);
    });
  });
});
