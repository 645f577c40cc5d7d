import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { recordFreeze, recoverFrozen } from '../../src/capture/adapters/frozen-record.ts';
import { superBlockOf } from '../../src/capture/adapters/mount-lookup.ts';
import { eventually, settlesWithin, startWriter } from './ingot-command.ts';
import { type LoopFilesystem, type LoopKind, loopFilesystem, run } from './loop-filesystem.ts';

/** What a test changes in a record; the rest is as a capture on this machine writes it. */
type Changes = Readonly<Record<string, unknown>>;

for (const kind of ['ext4', 'btrfs'] satisfies LoopKind[]) {
  describe(`a record of a freeze that nobody ended, on ${kind}`, () => {
    let disk: LoopFilesystem;
    let folder: string;

    before(() => {
      disk = loopFilesystem({ kind, sizeMiB: 128 });
      folder = mkdtempSync(join(tmpdir(), 'ingot-records-'));
    });
    after(() => {
      disk[Symbol.dispose]();
      rmSync(folder, { recursive: true });
    });
    beforeEach(() => {
      for (const name of readdirSync(folder)) rmSync(join(folder, name));
    });

    /** Leaves a record behind as if its capture and its guard had been killed. */
    function leaveRecord(changes: (record: { mounts: { diskSequence?: string }[] }) => Changes) {
      const fd = openSync(disk.mountPoint, 'r');
      try {
        const device = superBlockOf(fd);
        const mounts = [{ fd, mountPoint: disk.mountPoint, device }];
        recordFreeze({ guardPid: process.pid, mounts }, folder);
      } finally {
        closeSync(fd);
      }
      const path = join(folder, readdirSync(folder)[0] ?? '');
      const record = JSON.parse(readFileSync(path, 'utf8'));
      const nobody = { pid: process.pid, startTicks: '1' };
      const left = { ...record, capture: nobody, guard: nobody, ...changes(record) };
      writeFileSync(path, JSON.stringify(left));
    }

    /** Looks into the records while the filesystem is frozen. @returns whether it still is after */
    async function staysFrozen(): Promise<boolean> {
      run('fsfreeze', '-f', disk.mountPoint);
      const writer = startWriter(disk.mountPoint);
      try {
        await eventually('a writer that is held up', () => writer.isHeldUp() || undefined);
        recoverFrozen(folder);
        return !(await settlesWithin(writer.done, 300));
      } finally {
        spawnSync('fsfreeze', ['-u', disk.mountPoint]);
        await writer.done;
      }
    }

    test('thaws it, and is dropped', async () => {
      leaveRecord(() => ({}));
      assert.equal(await staysFrozen(), false);
      assert.deepEqual(readdirSync(folder), []);
    });

    test('leaves alone what is frozen on another disk of the same number', async () => {
      leaveRecord(({ mounts }) => ({
        mounts: mounts.map((mount) => {
          assert.match(mount.diskSequence ?? '', /^\d+$/);
          return { ...mount, diskSequence: String(Number(mount.diskSequence) - 1) };
        }),
      }));
      assert.equal(await staysFrozen(), true);
      assert.deepEqual(readdirSync(folder), []);
    });

    test('leaves alone what was frozen before this boot', async () => {
      leaveRecord(() => ({ bootId: 'another' }));
      assert.equal(await staysFrozen(), true);
      assert.deepEqual(readdirSync(folder), []);
    });

    test('leaves alone what a living capture has frozen', async () => {
      const stat = readFileSync('/proc/self/stat', 'latin1');
      const startTicks = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
      leaveRecord(() => ({ capture: { pid: process.pid, startTicks } }));
      assert.equal(await staysFrozen(), true);
      assert.equal(readdirSync(folder).length, 1);
    });

    test('leaves processes of another PID namespace to it while one of them lives', async () => {
      const child = spawn('unshare', ['--pid', '--fork', '--kill-child', 'sleep', '60'], {
        stdio: 'ignore',
      });
      const exited = once(child, 'exit');
      const own = readlinkSync('/proc/self/ns/pid');
      const pidNamespace = await eventually('a process of the namespace', () => {
        const name = readlinkSync(`/proc/${child.pid}/ns/pid_for_children`);
        return name === own || name === '' ? undefined : name;
      });
      leaveRecord(() => ({ pidNamespace }));
      assert.equal(await staysFrozen(), true);
      assert.equal(readdirSync(folder).length, 1);
      child.kill('SIGKILL');
      await exited;
      await eventually('an empty namespace', () => (isEmpty(pidNamespace) ? true : undefined));
      assert.equal(await staysFrozen(), false);
      assert.deepEqual(readdirSync(folder), []);
    });
  });
}

function isEmpty(pidNamespace: string): boolean {
  return readdirSync('/proc').every((name) => {
    try {
      return !/^\d+$/.test(name) || readlinkSync(`/proc/${name}/ns/pid`) !== pidNamespace;
    } catch {
      return true; // It has just ended.
    }
  });
}
