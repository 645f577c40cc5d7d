import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import {
  closeSync,
  constants,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { errnoOf, NODE_FLAGS } from '../../src/base/index.ts';
import { run } from './loop-filesystem.ts';

const MAIN = join(import.meta.dirname, '../../src/start/cli/main.ts');
const RECORDS = '/run/ingot/frozen';
/** What has not happened by then never will, on however busy a machine. */
const DEADLINE_MS = 60_000;

/** How a command ended, and what it said on stderr. */
export interface Ending {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stderr: string;
}

/** A running `ingot`. */
export interface RunningCommand {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly ended: Promise<Ending>;
}

/** Where stdout of a command goes: a descriptor, or `pipe` for the test to read. */
export type Stdout = number | 'pipe' | 'ignore';

/** Starts `ingot` with these words, in a process group of its own. */
export function startIngot(
  args: readonly string[],
  {
    stdin = '/dev/null',
    stdout = 'ignore' as Stdout,
    stderr = 'pipe' as Stdout,
    env = {} as NodeJS.ProcessEnv,
  } = {},
): RunningCommand {
  const input = openSync(stdin, 'r');
  const child = spawn(process.execPath, [...NODE_FLAGS, MAIN, ...args], {
    detached: true,
    stdio: [input, stdout, stderr],
    env: { ...process.env, ...env },
  });
  closeSync(input);
  let said = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const ended = new Promise<Ending>((resolve) => {
    child.once('close', (status, signal) => resolve({ status, signal, stderr: said }));
  });
  return { child, pid: child.pid ?? 0, ended };
}

/** Finds the child of a process by its name. */
export function childOf(pid: number, name: string): number {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ');
  const child = children.find((id) => readFileSync(`/proc/${id}/comm`, 'utf8').trim() === name);
  if (child === undefined) throw new Error(`process ${pid} has no ${name}`);
  return Number(child);
}

/** Runs `ingot` to its end. */
export function ingot(...args: readonly string[]): Promise<Ending> {
  return startIngot(args).ended;
}

/** Asks until the answer is there; a deadline keeps a broken test from hanging. */
export async function eventually<T>(
  what: string,
  ask: () => T | undefined,
  timeoutMs = DEADLINE_MS,
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const answer = ask();
    if (answer !== undefined) return answer;
    if (performance.now() > deadline) throw new Error(`${what} did not happen in ${timeoutMs} ms`);
    await sleep(5);
  }
}

/** The pid of the guard of a capture that is freezing or has frozen, once it recorded that. */
export function guardPidOf(capturePid: number): Promise<number> {
  return eventually(`a record of capture ${capturePid}`, () => {
    if (!existsSync(RECORDS)) return undefined;
    const name = readdirSync(RECORDS).find((file) => file.startsWith(`${capturePid}-`));
    return name === undefined ? undefined : Number(/-(\d+)\.json$/.exec(name)?.[1]);
  });
}

/** A process that writes one file and tells when it is done. */
export interface Writer {
  isDone(): boolean;
  /** Whether it waits in the kernel because its filesystem is frozen, or freezing. */
  isHeldUp(): boolean;
  readonly done: Promise<void>;
}

/** Starts a writer: on a frozen filesystem it waits in the kernel. */
export function startWriter(folder: string): Writer {
  let isDone = false;
  // Its own process: a test that waited in the kernel itself could not thaw any more. It forces
  // nothing out: how long that takes is up to the disk, and a freeze holds up the open already.
  const words = ['if=/dev/zero', `of=${join(folder, 'written')}`, 'bs=4096', 'count=1'];
  const child = spawn('dd', words, { stdio: 'ignore' });
  const done = new Promise<void>((resolve) => {
    child.once('exit', () => {
      isDone = true;
      resolve();
    });
  });
  return { isDone: () => isDone, isHeldUp: () => !isDone && isHeldUp(child.pid), done };
}

/**
 * Looks at where a process is in the kernel. Who writes to a filesystem first waits until it is not
 * frozen: for its `s_writers`, per-CPU semaphores.
 */
function isHeldUp(pid: number | undefined): boolean {
  try {
    const stack = readFileSync(`/proc/${pid}/stack`, 'latin1');
    return (
      /percpu_rwsem|percpu_down_read|sb_start_write/.test(stack) &&
      /mnt_want_write|sb_start_write|vfs_write/.test(stack)
    );
  } catch (thrown) {
    if (!['ENOENT', 'ESRCH'].includes(errnoOf(thrown) ?? '')) throw thrown;
    return false; // It has ended.
  }
}

/** Starts writers until the kernel holds one of them up: then the filesystem is frozen. */
export async function untilFrozen(folder: string, timeoutMs = DEADLINE_MS): Promise<Writer> {
  let writer = startWriter(folder);
  return eventually(
    `a freeze of ${folder}`,
    () => {
      if (writer.isHeldUp()) return writer;
      if (writer.isDone()) writer = startWriter(folder);
      return undefined;
    },
    timeoutMs,
  );
}

/**
 * Waits for something that must come, but not before its time.
 *
 * A busy machine sees it late, and never takes what is in time for something early.
 */
export async function assertSettlesBetween(
  promise: Promise<unknown>,
  times: { readonly sinceMs: number; readonly earliestMs: number; readonly latestMs: number },
): Promise<void> {
  const { sinceMs, earliestMs, latestMs } = times;
  const leftMs = sinceMs + latestMs - performance.now();
  assert.ok(await settlesWithin(promise, leftMs), `it did not happen within ${latestMs} ms`);
  const elapsedMs = performance.now() - sinceMs;
  assert.ok(elapsedMs >= earliestMs, `it happened after ${elapsedMs} ms already`);
}

/** Whether a promise settles within a time. */
export async function settlesWithin(
  promise: Promise<unknown>,
  timeoutMs: number,
): Promise<boolean> {
  const timeout = new AbortController();
  const late = sleep(timeoutMs, false, { signal: timeout.signal }).catch(() => false);
  const settled = await Promise.race([promise.then(() => true), late]);
  timeout.abort();
  return settled;
}

/** A pipe whose reader is the test. */
export interface TestPipe extends Disposable {
  /** Hand this to a command as its stdout, then call `started`. */
  readonly writeEnd: number;
  /** Closes the test's own copy of the write end, so that the reader sees the end. */
  started(): void;
  /** Reads what is there, at most `lengthBytes`, waiting for the first byte. */
  take(lengthBytes: number, timeoutMs?: number): Promise<Buffer>;
  /** Closes the read end: the writer gets EPIPE. */
  hangUp(): void;
}

/** Makes a real pipe (what a child process gets from Node by itself is a socket). */
export function openPipe(folder: string): TestPipe {
  const path = join(folder, `pipe-${process.hrtime.bigint()}`);
  run('mkfifo', path);
  const readEnd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const writeEnd = openSync(path, constants.O_WRONLY);
  const open = new Set([readEnd, writeEnd]);
  const close = (fd: number): void => {
    if (open.delete(fd)) closeSync(fd);
  };
  return {
    writeEnd,
    started: () => close(writeEnd),
    take: (lengthBytes, timeoutMs) =>
      eventually(
        'a byte in the pipe',
        () => {
          const bytes = Buffer.alloc(lengthBytes);
          try {
            const count = readSync(readEnd, bytes);
            return count === 0 ? undefined : bytes.subarray(0, count);
          } catch (thrown) {
            if (errnoOf(thrown) === 'EAGAIN') return undefined;
            throw thrown;
          }
        },
        timeoutMs,
      ),
    hangUp: () => close(readEnd),
    [Symbol.dispose]: () => {
      close(readEnd);
      close(writeEnd);
    },
  };
}
