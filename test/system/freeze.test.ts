import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { errnoOf, MIB } from '../../src/base/index.ts';
import {
  eventually,
  guardPidOf,
  ingot,
  openPipe,
  type RunningCommand,
  settlesWithin,
  startIngot,
  startWriter,
  untilFrozen,
  type Writer,
} from './ingot-command.ts';
import { type LoopFilesystem, loopFilesystem, run } from './loop-filesystem.ts';

/** The promise of the design: a writer goes on within this time, whatever was killed. */
const THAW_WITHIN_MS = 5000;
/** What `--max-freeze` is given: long enough to do something while it lasts. */
const LIMIT_MS = 4000;

/** A dump that is frozen and stays so, because nobody reads its output. */
interface FrozenDump extends Disposable {
  readonly dump: RunningCommand;
  readonly guardPid: number;
  /** Waits in the kernel until the filesystem thaws. */
  readonly writer: Writer;
  hangUp(): void;
}

describe('nothing stays frozen', () => {
  let disk: LoopFilesystem;

  before(() => {
    disk = loopFilesystem({ sizeMiB: 64 });
    // More than a pipe holds.
    run('dd', 'if=/dev/urandom', `of=${join(disk.mountPoint, 'data')}`, 'bs=1M', 'count=24');
  });
  after(() => disk[Symbol.dispose]());

  async function frozenDump(...options: readonly string[]): Promise<FrozenDump> {
    using undo = new DisposableStack();
    const pipe = undo.use(openPipe(disk.scratch));
    const words = ['snapshot', 'dump', '--source', disk.mountPoint, ...options];
    const dump = startIngot(words, { stdout: pipe.writeEnd });
    undo.defer(() => void dump.child.kill('SIGKILL'));
    pipe.started();
    // The beginning is taken, so that the dump freezes; then nobody reads on.
    await pipe.take(1024);
    const guardPid = await guardPidOf(dump.pid);
    const writer = await untilFrozen(disk.mountPoint);
    const owned = undo.move();
    return {
      dump,
      guardPid,
      writer,
      hangUp: () => pipe.hangUp(),
      [Symbol.dispose]: () => owned.dispose(),
    };
  }

  /** A dump that is frozen, and that its limit will thaw: a busy machine may meet one too late. */
  async function limitedDump(): Promise<FrozenDump> {
    for (let turn = 1; ; turn += 1) {
      try {
        return await frozenDump('--max-freeze', `${LIMIT_MS}ms`);
      } catch (thrown) {
        if (turn === 3) throw thrown;
      }
    }
  }

  async function assertWrites(writer: Writer, withinMs = THAW_WITHIN_MS): Promise<void> {
    assert.ok(await settlesWithin(writer.done, withinMs), 'the filesystem is still frozen');
    const second = startWriter(disk.mountPoint);
    assert.ok(await settlesWithin(second.done, THAW_WITHIN_MS), 'the filesystem froze again');
  }

  test('when the capture is killed', async () => {
    using frozen = await frozenDump();
    process.kill(frozen.dump.pid, 'SIGKILL');
    await assertWrites(frozen.writer);
  });

  test('when the whole process group of the capture is killed', async () => {
    using frozen = await frozenDump();
    process.kill(-frozen.dump.pid, 'SIGKILL');
    await assertWrites(frozen.writer);
  });

  test('when the guard is killed; the capture fails with freeze-lost', async () => {
    using frozen = await frozenDump();
    process.kill(frozen.guardPid, 'SIGKILL');
    await assertWrites(frozen.writer);
    const { status, stderr } = await frozen.dump.ended;
    assert.equal(status, 47, stderr);
  });

  test('when both are killed at once: the next ingot thaws', async () => {
    using frozen = await frozenDump();
    // Stopped first, so that neither lives to see the other one die.
    for (const pid of [frozen.dump.pid, frozen.guardPid]) process.kill(pid, 'SIGSTOP');
    for (const pid of [frozen.dump.pid, frozen.guardPid]) process.kill(pid, 'SIGKILL');
    await frozen.dump.ended;
    // Both are dead, so only an ingot can thaw. On a busy machine that may be any, not just ours:
    // what it says on stderr is therefore not compared.
    // It may have another mount namespace, in which the filesystem is not even mounted.
    const entry = join(import.meta.dirname, '../../src/start/cli/main.ts');
    const { status, stderr } = spawnSync(
      'unshare',
      [
        '-m',
        'sh',
        '-c',
        'umount "$2" && exec "$0" "$1" version',
        process.execPath,
        entry,
        disk.mountPoint,
      ],
      { encoding: 'utf8' },
    );
    assert.equal(status, 0, stderr);
    await assertWrites(frozen.writer);
    const name = `${frozen.dump.pid}-${frozen.guardPid}.json`;
    assert.equal(existsSync(join('/run/ingot/frozen', name)), false);
  });

  test('the next ingot leaves a living capture alone', async () => {
    using frozen = await frozenDump();
    assert.equal((await ingot('version')).status, 0);
    assert.equal(await settlesWithin(frozen.writer.done, 500), false);
    process.kill(frozen.dump.pid, 'SIGTERM');
    await assertWrites(frozen.writer);
  });

  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    test(`${signal} ends the capture with 130`, async () => {
      using frozen = await frozenDump();
      process.kill(frozen.dump.pid, signal);
      await assertWrites(frozen.writer);
      const { status, stderr } = await frozen.dump.ended;
      assert.equal(status, 130, stderr);
    });
  }

  test('signals do not end the guard', async () => {
    using frozen = await frozenDump();
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGPIPE'] as const) {
      process.kill(frozen.guardPid, signal);
    }
    assert.equal(await settlesWithin(frozen.writer.done, 500), false);
    process.kill(frozen.dump.pid, 'SIGTERM');
    await assertWrites(frozen.writer);
  });

  test('when the capture is stopped: the guard keeps the limit', async () => {
    using frozen = await limitedDump();
    process.kill(frozen.dump.pid, 'SIGSTOP');
    await assertWrites(frozen.writer, LIMIT_MS + THAW_WITHIN_MS);
    process.kill(frozen.dump.pid, 'SIGCONT');
    const { status, stderr } = await frozen.dump.ended;
    assert.equal(status, 48, stderr);
  });

  test('when the guard is stopped: the capture keeps the limit', async () => {
    using frozen = await limitedDump();
    process.kill(frozen.guardPid, 'SIGSTOP');
    await assertWrites(frozen.writer, LIMIT_MS + THAW_WITHIN_MS);
    const { status, stderr } = await frozen.dump.ended;
    assert.equal(status, 48, stderr);
    assert.equal(existsSync(`/proc/${frozen.guardPid}`), false, 'the stopped guard is left over');
  });

  test('when the reader stops reading: the limit ends it', async () => {
    using frozen = await limitedDump();
    await assertWrites(frozen.writer, LIMIT_MS + THAW_WITHIN_MS);
    const { status, stderr } = await frozen.dump.ended;
    assert.equal(status, 48, stderr);
  });

  test('when the reader goes away', async () => {
    using frozen = await frozenDump();
    frozen.hangUp();
    await assertWrites(frozen.writer);
    const { status, stderr } = await frozen.dump.ended;
    assert.equal(status, 53, stderr);
  });

  test('when somebody else thaws: the capture fails with freeze-lost', async () => {
    const output = join(disk.scratch, 'lost.img');
    using frozen = await frozenDump();
    run('fsfreeze', '-u', disk.mountPoint);
    await assertWrites(frozen.writer);
    // The dump learns of it when it thaws, so it is let finish: its reader hangs up.
    frozen.hangUp();
    const { status, stderr } = await frozen.dump.ended;
    assert.equal(status, 47, stderr);
    assert.equal(existsSync(output), false);
  });

  test('what somebody else froze is refused and stays frozen', async () => {
    run('fsfreeze', '-f', disk.mountPoint);
    try {
      const writer = startWriter(disk.mountPoint);
      const { status, stderr } = await ingot(
        'snapshot',
        'dump',
        '--source',
        disk.mountPoint,
        '-o',
        join(disk.scratch, 'busy.img'),
      );
      assert.equal(status, 41, stderr);
      assert.equal(await settlesWithin(writer.done, 300), false, 'it was thawed');
      assert.equal(existsSync(join(disk.scratch, 'busy.img')), false);
    } finally {
      spawnSync('fsfreeze', ['-u', disk.mountPoint]);
    }
  });

  test('killing the capture at any moment leaves nothing frozen and no file that is not whole', async () => {
    for (const delayMs of [100, 200, 250, 300, 350, 400, 500, 700]) {
      const output = join(disk.scratch, `killed-after-${delayMs}.gz`);
      const words = ['snapshot', 'dump', '--source', disk.mountPoint, '-o', output, '-C', 'gzip'];
      const dump = startIngot(words);
      await settlesWithin(dump.ended, delayMs);
      dump.child.kill('SIGKILL');
      const { status } = await dump.ended;
      const writer = startWriter(disk.mountPoint);
      assert.ok(await settlesWithin(writer.done, THAW_WITHIN_MS), `killed after ${delayMs} ms`);
      if (status === 0) assert.ok(existsSync(output));
      // One that is killed behind its last step has its file already.
      if (!existsSync(output)) continue;
      assert.equal(run('sh', '-c', 'gzip -dc < "$0" | wc -c', output).trim(), `${64 * MIB}`);
      rmSync(output);
    }
  });

  test('killing the guard at any moment ends in a whole dump or in a failure', async () => {
    for (let round = 0, turn = 0; round < 6; turn += 1) {
      assert.ok(turn < 20, 'the guard is never seen');
      const output = join(disk.scratch, `guard-${turn}.img`);
      const dump = startIngot(['snapshot', 'dump', '--source', disk.mountPoint, '-o', output]);
      let hasEnded = false;
      void dump.ended.then(() => {
        hasEnded = true;
      });
      const guardPid = await eventually('a guard', () => (hasEnded ? null : childOf(dump.pid)));
      // It was over before anybody looked.
      if (guardPid === null) continue;
      await settlesWithin(dump.ended, round * 40);
      spawnSync('kill', ['-9', String(guardPid)]);
      const { status, stderr } = await dump.ended;
      assert.ok(status === 0 || status === 46 || status === 47, `${status}: ${stderr}`);
      assert.equal(existsSync(output), status === 0);
      await assertWrites(startWriter(disk.mountPoint));
      round += 1;
    }
  });
});

/** @returns the first child of a process, once it has one */
function childOf(pid: number): number | undefined {
  try {
    const [first = ''] = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ');
    return first === '' ? undefined : Number(first);
  } catch (thrown) {
    if (errnoOf(thrown) !== 'ENOENT' && errnoOf(thrown) !== 'ESRCH') throw thrown;
    return undefined; // It has ended.
  }
}
