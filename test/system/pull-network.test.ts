import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import {
  assertSettlesBetween,
  eventually,
  openPipe,
  startWriter,
  untilFrozen,
} from './ingot-command.ts';
import { type LoopFilesystem, loopFilesystem, run } from './loop-filesystem.ts';
import { type SshDaemon, SUDO_PASSWORD, sshDaemonIsMissing, startSshDaemon } from './ssh-daemon.ts';

const MAIN = join(import.meta.dirname, '../../src/start/cli/main.ts');

/** A network of its own with nothing but a loopback interface. */
interface Network extends AsyncDisposable {
  /** Words that a command in this network begins with. */
  readonly prefix: readonly string[];
  /** Takes the link down: packets get lost, and no connection hears of it. */
  unplug(): void;
  /** Brings it back. */
  plugIn(): void;
}

async function openNetwork(): Promise<Network> {
  const holder = spawn('unshare', ['--net', 'sleep', '600'], { stdio: 'ignore' });
  const prefix = ['nsenter', `--net=/proc/${holder.pid}/ns/net`];
  await eventually('a network of its own', () =>
    spawnSync('nsenter', [prefix[1] ?? '', 'ip', 'link', 'set', 'lo', 'up']).status === 0 &&
    isApart(holder)
      ? true
      : undefined,
  );
  return {
    prefix,
    unplug: () => run('nsenter', prefix[1] ?? '', 'ip', 'link', 'set', 'lo', 'down'),
    plugIn: () => run('nsenter', prefix[1] ?? '', 'ip', 'link', 'set', 'lo', 'up'),
    [Symbol.asyncDispose]: async () => {
      const ended = once(holder, 'exit');
      holder.kill('SIGKILL');
      await ended;
    },
  };
}

/** Whether a process has left our network. */
function isApart({ pid }: ChildProcess): boolean {
  const networkOf = (id: string): string =>
    spawnSync('readlink', [`/proc/${id}/ns/net`], { encoding: 'utf8' }).stdout;
  return networkOf(String(pid)) !== networkOf('self');
}

let network: Network;
let daemon: SshDaemon;

/** What a pull over IPv6 is called with. */
function pullWords(user: string, disk: LoopFilesystem, ...options: string[]): string[] {
  const url = `ssh://${user}@[::1]:${daemon.port}`;
  const words = ['snapshot', 'pull', url, '-S', '-F', '-S', daemon.config];
  return [...words, '--source', disk.mountPoint, ...options];
}

function startHere(words: readonly string[], stdout: number | 'ignore' = 'ignore') {
  const argv = [...network.prefix, process.execPath, ...NODE_FLAGS, MAIN, ...words];
  const child = spawn(argv[0] ?? '', argv.slice(1), { stdio: ['ignore', stdout, 'pipe'] });
  let stderr = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const ended = once(child, 'close').then(([status]) => ({ status: status as number, stderr }));
  return { child, ended };
}

const missing =
  sshDaemonIsMissing() ??
  (spawnSync('unshare', ['--net', 'true']).status === 0
    ? undefined
    : 'there are no network namespaces');

describe('snapshot pull in a network of its own, over IPv6', { skip: missing ?? false }, () => {
  before(async () => {
    network = await openNetwork();
    daemon = await startSshDaemon({ prefix: network.prefix, address: '::1' });
  });
  after(async () => {
    await daemon[Symbol.asyncDispose]();
    await network[Symbol.asyncDispose]();
  });

  test('a device at an address in brackets comes over', async () => {
    using disk = loopFilesystem();
    writeFileSync(join(disk.mountPoint, 'data'), randomBytes(3_000_000));
    const output = join(disk.scratch, 'out.img');
    const { status, stderr } = await startHere(pullWords('root', disk, '-o', output)).ended;
    assert.equal(status, 0, stderr);
    run('e2fsck', '-fn', output);
  });

  test('a person at a terminal is asked for the password of sudo, which is not shown', async (t) => {
    if (spawnSync('python3', ['-c', 'import pty']).status !== 0) {
      t.skip('python3 is not installed');
      return;
    }
    using disk = loopFilesystem();
    const output = join(disk.scratch, 'out.img');
    const words = pullWords('golden', disk, '-o', output);
    const command = [...network.prefix, process.execPath, MAIN, ...words];
    const terminal = spawn('python3', ['-c', TYPE_PASSWORD, 'wrong', SUDO_PASSWORD, ...command]);
    let shown = '';
    terminal.stdout.setEncoding('utf8').on('data', (text: string) => {
      shown += text;
    });
    const [status] = await once(terminal, 'close');
    assert.equal(status, 0, shown);
    assert.match(shown, /Password for sudo/);
    assert.match(shown, /Sorry, try again/);
    assert.doesNotMatch(shown, new RegExp(SUDO_PASSWORD));
    run('e2fsck', '-fn', output);
  });

  test('a link that goes down thaws within the limit, though nobody hears of it', async () => {
    using disk = loopFilesystem();
    writeFileSync(join(disk.mountPoint, 'data'), randomBytes(32 * 1024 * 1024));
    using pipe = openPipe(disk.scratch);
    const { child, ended } = startHere(pullWords('root', disk, '--no-precopy'), pipe.writeEnd);
    pipe.started();
    await pipe.take(1024);
    await untilFrozen(disk.mountPoint);
    const sinceMs = performance.now();
    network.unplug();
    try {
      const { done } = startWriter(disk.mountPoint);
      await assertSettlesBetween(done, { sinceMs, earliestMs: 2000, latestMs: 11_000 });
    } finally {
      child.kill('SIGKILL');
      await ended;
      // The device hears now that nobody is there, and its shell ends.
      network.plugIn();
    }
  });
});

/** Runs a command in a terminal and types one password after the other when it is asked. */
const TYPE_PASSWORD = `
import os, pty, sys
passwords = sys.argv[1:3]
def read(fd):
    data = os.read(fd, 4096)
    if passwords and b'Password for sudo' in data:
        os.write(fd, passwords.pop(0).encode() + b'\\n')
    return data
status = pty.spawn(sys.argv[3:], read)
sys.exit(os.waitstatus_to_exitcode(status))
`;

import { NODE_FLAGS } from '../../src/base/index.ts';
