import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fstatSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type Clock, IngotError, isFailure, NODE_FLAGS } from '../../base/index.ts';
import type { FreezeGuard, FreezeLimits } from '../freeze.ts';
import { recordFreeze } from './frozen-record.ts';
import { thawFilesystem } from './libc.ts';

/** A filesystem to freeze: any descriptor on it, and where it is mounted, for people. */
export interface FreezeMount {
  readonly fd: number;
  readonly mountPoint: string;
  /** `major:minor`. */
  readonly device: string;
}

const GUARD_PROGRAM = join(import.meta.dirname, 'freeze-guard-process.ts');
/** Starting Node on a busy small device takes seconds; nothing is frozen meanwhile. */
const START_TIMEOUT_MS = 60_000;
/** An answer to `thaw` takes milliseconds; after this the capture thaws by itself. */
const THAW_ANSWER_MS = 5000;
/** How much later than the guard the capture itself ends an overdue freeze. */
const OVERDUE_MS = 2000;
/** One line a second is enough to refresh a limit of 30 s. */
const PROGRESS_EVERY_MS = 1000;

type Phase = 'ready' | 'freezing' | 'frozen' | 'over';

function failedFreeze(mount: FreezeMount | undefined, errno: string): IngotError {
  const place = mount?.mountPoint ?? 'the filesystem';
  if (errno === 'EBUSY') {
    return new IngotError('source-frozen', `${place} is frozen by somebody else already`, {
      mountPoint: place,
    });
  }
  const reason =
    errno === 'EOPNOTSUPP' ? 'its filesystem cannot be frozen' : `the kernel answered ${errno}`;
  return new IngotError('freeze-failed', `${place} did not freeze: ${reason}`, {
    mountPoint: place,
    errno,
  });
}

/** Holds the capture's end of a guard process; see {@link FreezeGuard} for what it promises. */
class GuardProcess implements FreezeGuard {
  readonly #child: ChildProcess;
  readonly #mounts: readonly FreezeMount[];
  readonly #limits: FreezeLimits;
  readonly #clock: Clock;
  readonly #exited: Promise<unknown>;
  #phase: Phase = 'ready';
  #failure: IngotError | undefined;
  #answer: ((line: string) => void) | undefined;
  #removeRecord: (() => void) | undefined;
  #frozenAt = 0;
  #freezeMs = 0;
  #progressSaidAt = 0;
  #progressAt = 0;
  #overdue: NodeJS.Timeout | undefined;
  /** It was ended before it had said whether it froze. */
  #wasGivenUpEarly = false;

  constructor(setup: {
    readonly child: ChildProcess;
    readonly mounts: readonly FreezeMount[];
    readonly limits: FreezeLimits;
    readonly clock: Clock;
  }) {
    this.#child = setup.child;
    this.#mounts = setup.mounts;
    this.#limits = setup.limits;
    this.#clock = setup.clock;
    this.#exited = once(setup.child, 'exit').catch(() => undefined);
    // A guard that is gone answers with EPIPE; its exit is what counts.
    setup.child.stdin?.on('error', () => undefined);
    if (setup.child.stdout !== null) {
      createInterface(setup.child.stdout).on('line', (line) => this.#hear(line));
    }
    setup.child.once('exit', () => this.#guardGone());
  }

  /** Waits until the guard has its descriptors. */
  async ready(): Promise<void> {
    const line = await this.#nextAnswer(START_TIMEOUT_MS);
    if (line !== 'ready') {
      throw new IngotError('freeze-failed', `the freeze guard did not start (${line})`);
    }
  }

  async freeze(): Promise<void> {
    if (this.#phase !== 'ready') throw new Error(`the guard is ${this.#phase}, not ready`);
    const guardPid = this.#child.pid ?? 0;
    this.#removeRecord = recordFreeze({ guardPid, mounts: this.#mounts });
    this.#phase = 'freezing';
    this.#frozenAt = this.#clock.monotonic();
    this.#progressAt = this.#frozenAt;
    // From now on: a guard that is stopped before it can say that it froze keeps no limit either.
    this.#overdue = setInterval(() => this.#thawWhenOverdue(), 1000).unref();
    const { maxFreezeMs, maxStallMs } = this.#limits;
    const answer = this.#nextAnswer(undefined);
    this.#send(`freeze ${Math.ceil(maxFreezeMs ?? 0)} ${Math.ceil(maxStallMs)}`);
    const [word, index, errno] = (await answer).split(' ');
    if (word !== 'frozen') {
      this.#end();
      throw (
        this.#failure ??
        (word === 'failed'
          ? failedFreeze(this.#mounts[Number(index)], errno ?? 'nothing')
          : new IngotError('freeze-lost', 'the freeze guard died while it froze'))
      );
    }
    this.#phase = 'frozen';
    this.#progressAt = this.#clock.monotonic();
  }

  progressed(): void {
    this.#progressAt = this.#clock.monotonic();
    if (this.#phase !== 'frozen' || this.#progressAt - this.#progressSaidAt < PROGRESS_EVERY_MS) {
      return;
    }
    this.#progressSaidAt = this.#progressAt;
    this.#send('progress');
  }

  check(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  async thaw(): Promise<number> {
    if (this.#phase === 'frozen') {
      const answer = this.#nextAnswer(THAW_ANSWER_MS);
      this.#send('thaw');
      const line = await answer;
      // `limit` and `lost` were heard already; anything but `thawed` without them is a dead guard.
      if (line !== 'thawed' && this.#failure === undefined) {
        this.#fail('freeze-lost', `the freeze guard did not answer (${line})`);
      }
      this.#end();
    }
    if (this.#failure !== undefined) throw this.#failure;
    return this.#freezeMs;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#phase === 'frozen' || this.#phase === 'freezing') {
      try {
        await this.thaw();
      } catch (thrown) {
        if (!isFailure(thrown)) throw thrown;
      }
    }
    this.#child.stdin?.end();
    const killer = setTimeout(() => this.#child.kill('SIGKILL'), THAW_ANSWER_MS);
    if (this.#child.exitCode === null && this.#child.signalCode === null) await this.#exited;
    clearTimeout(killer);
    this.#thawHere();
    // It may have frozen after it was given up, and died of that.
    if (this.#wasGivenUpEarly) this.#thawAll();
  }

  #send(line: string): void {
    this.#child.stdin?.write(`${line}\n`);
  }

  #hear(line: string): void {
    if (line.startsWith('limit ')) {
      const limits = this.#limits;
      this.#fail(
        'freeze-timeout',
        line === 'limit max'
          ? `the freeze was ended at its limit of ${limits.maxFreezeMs} ms`
          : `the freeze was ended after ${limits.maxStallMs} ms without progress`,
      );
    } else if (line.startsWith('lost ')) {
      this.#fail('freeze-lost', 'somebody else thawed the filesystem before the capture was done');
    }
    const answer = this.#answer;
    this.#answer = undefined;
    answer?.(line);
  }

  #guardGone(): void {
    if (this.#phase === 'frozen' || this.#phase === 'freezing') {
      this.#fail('freeze-lost', 'the freeze guard died; the filesystem was thawed without it');
    }
    const answer = this.#answer;
    this.#answer = undefined;
    answer?.('gone');
  }

  /** Keeps the first failure, and makes sure that nothing is frozen any more. */
  #fail(code: 'freeze-lost' | 'freeze-timeout', message: string): void {
    this.#failure ??= new IngotError(code, message);
    this.#wasGivenUpEarly ||= this.#phase === 'freezing';
    this.#end();
    const answer = this.#answer;
    this.#answer = undefined;
    answer?.('given up');
  }

  #end(): void {
    if (this.#phase === 'over') return;
    if (this.#phase === 'frozen') this.#freezeMs = this.#clock.monotonic() - this.#frozenAt;
    if (this.#failure !== undefined) this.#thawHere();
    this.#phase = 'over';
    clearInterval(this.#overdue);
    this.#removeRecord?.();
    this.#removeRecord = undefined;
  }

  /** Thaws through the capture's own descriptors what this guard froze, when the guard cannot. */
  #thawHere(): void {
    if (this.#phase === 'frozen' || this.#phase === 'freezing') this.#thawAll();
  }

  #thawAll(): void {
    for (const { fd } of this.#mounts.toReversed()) thawFilesystem(fd);
  }

  /** A guard that is stopped keeps no limit: then the capture keeps it, a little later. */
  #thawWhenOverdue(): void {
    const now = this.#clock.monotonic();
    const { maxFreezeMs, maxStallMs } = this.#limits;
    const isOver =
      (maxFreezeMs !== undefined && now - this.#frozenAt > maxFreezeMs + OVERDUE_MS) ||
      now - this.#progressAt > maxStallMs + OVERDUE_MS;
    if (isOver) this.#fail('freeze-timeout', 'the freeze guard missed its limit');
  }

  #nextAnswer(timeoutMs: number | undefined): Promise<string> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) {
      return Promise.resolve('gone');
    }
    return new Promise((resolve) => {
      const timer =
        timeoutMs === undefined ? undefined : setTimeout(() => resolve('silent'), timeoutMs);
      this.#answer = (line) => {
        clearTimeout(timer);
        resolve(line);
      };
    });
  }
}

/**
 * Starts a guard process for the filesystems of these descriptors and waits until it holds them.
 *
 * The descriptors stay the caller's and must stay open until the guard is disposed of.
 *
 * @throws IngotError `freeze-failed` when the guard does not start
 */
export async function startFreezeGuard(
  mounts: readonly FreezeMount[],
  { limits, clock }: { readonly limits: FreezeLimits; readonly clock: Clock },
): Promise<FreezeGuard> {
  const devices = mounts.map(({ fd }) => String(fstatSync(fd, { bigint: true }).dev));
  const child = spawn(process.execPath, [...NODE_FLAGS, GUARD_PROGRAM, ...devices], {
    // A session of its own: a signal to the capture's process group does not reach it.
    detached: true,
    stdio: ['pipe', 'pipe', 'ignore', ...mounts.map(({ fd }) => fd)],
    cwd: '/',
    env: {},
  });
  const started = await Promise.race([once(child, 'spawn'), once(child, 'error')]).catch(
    (thrown: unknown) => [thrown],
  );
  if (started[0] instanceof Error) {
    throw new IngotError(
      'freeze-failed',
      'the freeze guard did not start',
      {},
      { cause: started[0] },
    );
  }
  const guard = new GuardProcess({ child, mounts, limits, clock });
  try {
    await guard.ready();
  } catch (thrown) {
    await guard[Symbol.asyncDispose]();
    throw thrown;
  }
  return guard;
}
