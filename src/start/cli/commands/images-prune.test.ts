import assert from 'node:assert/strict';
import { after, beforeEach, describe, test } from 'node:test';
import { runCli } from '../../../../test/fakes/cli-run.ts';
import { startMemoryDaemon } from '../../../../test/fakes/memory-daemon.ts';
import { FAILURES } from '../../../base/index.ts';

const daemon = await startMemoryDaemon();
const { backend, env } = daemon;
after(() => daemon[Symbol.asyncDispose]());

const DAY_MS = 86_400_000;
const at = (day: number) => Date.UTC(2026, 10, 1) + day * DAY_MS;
const prune = (...argv: string[]) => runCli(['images', 'prune', ...argv], env);

describe('ingot images prune', () => {
  beforeEach(() => {
    backend.stored.clear();
    const disk = Buffer.alloc(512);
    backend.add(disk, { id: 'img-web01', name: 'web 1', createdAt: at(1) });
    backend.add(disk, { id: 'img-web02', name: 'web 2', createdAt: at(2), isLocked: true });
    backend.add(disk, { id: 'img-web03', name: 'web 3', createdAt: at(3) });
    backend.add(disk, { id: 'img-web04', name: 'web 4', createdAt: at(4) });
    backend.add(disk, { id: 'img-db001', name: 'db', createdAt: at(0) });
    const theirs = { ownerId: 'acc-zzzzz', isPublic: true } as const;
    backend.add(disk, { id: 'img-other', name: 'web 9', createdAt: at(9), ...theirs });
  });

  test('--dry-run shows what would go, and destroys nothing', async () => {
    const { status, stdout } = await prune('--name', 'web *', '--keep-last', '1', '--dry-run');
    assert.equal(status, 0);
    assert.equal(
      stdout,
      'img-web04  2026-11-05  web 4  keep    last\n' +
        'img-web03  2026-11-04  web 3  remove\n' +
        'img-web02  2026-11-03  web 2  keep    locked\n' +
        'img-web01  2026-11-02  web 1  remove\n',
    );
    assert.equal(backend.stored.size, 6);
  });

  test('removes what no rule keeps; other names, other accounts and locked ones stay', async () => {
    const { status, stderr } = await prune('--name', 'web *', '--keep-last', '1', '--yes');
    assert.equal(status, 0, stderr);
    assert.deepEqual([...backend.stored.keys()].toSorted(), [
      'img-db001',
      'img-other',
      'img-web02',
      'img-web04',
    ]);
  });

  test('a policy that keeps nothing is refused', async () => {
    for (const rules of [[], ['--keep-last', '0']]) {
      const { status } = await prune('--name', '*', '--yes', ...rules);
      assert.equal(status, FAILURES['request-invalid'].exit);
    }
    assert.equal(backend.stored.size, 6);
  });

  test('a name is matched as a whole, and its other characters mean themselves', async () => {
    const { stdout } = await prune('--name', 'd?', '--keep-last', '1', '--json', '--dry-run');
    assert.deepEqual(
      JSON.parse(stdout).map(({ id }: { id: string }) => id),
      ['img-db001'],
    );
    const dots = await prune('--name', 'd.', '--keep-last', '1', '--json', '--dry-run');
    assert.deepEqual(JSON.parse(dots.stdout), []);
  });
});
