import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { Clock } from '../base/index.ts';
import { GuardMachine } from './guard-machine.ts';

/** A clock that a test moves; sleepers wake in order. */
class HandClock implements Clock {
  #nowMs = 0;
  #sleepers: { readonly at: number; readonly wake: () => void }[] = [];

  now(): number {
    return this.#nowMs;
  }

  monotonic(): number {
    return this.#nowMs;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#sleepers.push({ at: this.#nowMs + ms, wake: resolve });
      signal?.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
  }

  async advance(ms: number): Promise<void> {
    const end = this.#nowMs + ms;
    for (;;) {
      const next = this.#sleepers.toSorted((a, b) => a.at - b.at)[0];
      if (next === undefined || next.at > end) break;
      this.#nowMs = Math.max(this.#nowMs, next.at);
      this.#sleepers = this.#sleepers.filter((sleeper) => sleeper !== next);
      next.wake();
      await settled();
    }
    this.#nowMs = end;
    await settled();
  }
}

/** Lets everything run that waits for a promise only. */
function settled(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

/** Filesystems of a kernel that a test can look into. */
function fakeKernel(count = 1, errors: Readonly<Record<number, string>> = {}) {
  const frozen = new Set<number>();
  const order: string[] = [];
  return {
    frozen,
    order,
    calls: {
      freeze: (index: number) => {
        const errno = errors[index] ?? (frozen.has(index) ? 'EBUSY' : undefined);
        if (errno === undefined) {
          frozen.add(index);
          order.push(`freeze ${index}`);
        }
        return errno;
      },
      thaw: (index: number) => {
        order.push(`thaw ${index}`);
        return frozen.delete(index) ? undefined : 'EINVAL';
      },
    },
    count,
  };
}

function startGuard(kernel = fakeKernel()) {
  const clock = new HandClock();
  const said: string[] = [];
  const { calls, count } = kernel;
  const guard = new GuardMachine({ calls, count, clock, say: (line) => said.push(line) });
  return { guard, clock, said, kernel };
}

describe('the guard', () => {
  test('freezes and thaws when told', () => {
    const { guard, said, kernel } = startGuard();
    guard.receive('freeze 0 30000');
    assert.deepEqual([...kernel.frozen], [0]);
    guard.receive('thaw');
    assert.deepEqual([...kernel.frozen], []);
    assert.deepEqual(said, ['frozen', 'thawed']);
  });

  test('thaws when its capture is gone', () => {
    const { guard, kernel } = startGuard();
    guard.receive('freeze 0 30000');
    guard.captureGone();
    assert.deepEqual([...kernel.frozen], []);
  });

  test('does not thaw what it did not freeze', () => {
    const kernel = fakeKernel();
    kernel.frozen.add(0);
    const { guard, said } = startGuard(kernel);
    guard.receive('freeze 0 30000');
    guard.receive('thaw');
    guard.captureGone();
    assert.deepEqual([...kernel.frozen], [0]);
    assert.deepEqual(said, ['failed 0 EBUSY']);
    assert.deepEqual(kernel.order, []);
  });

  test('freezes all or nothing, and thaws in reverse', () => {
    const { guard, said, kernel } = startGuard(fakeKernel(3, { 2: 'EOPNOTSUPP' }));
    guard.receive('freeze 0 30000');
    assert.deepEqual(said, ['failed 2 EOPNOTSUPP']);
    assert.deepEqual(kernel.order, ['freeze 0', 'freeze 1', 'thaw 1', 'thaw 0']);
  });

  test('ends the freeze after 30 s without progress, and not before', async () => {
    const { guard, clock, said, kernel } = startGuard();
    guard.receive('freeze 0 30000');
    await clock.advance(29_999);
    assert.deepEqual([...kernel.frozen], [0]);
    await clock.advance(1);
    assert.deepEqual([...kernel.frozen], []);
    assert.deepEqual(said, ['frozen', 'limit stall']);
  });

  test('goes on for hours while there is progress and no limit in all', async () => {
    const { guard, clock, kernel } = startGuard();
    guard.receive('freeze 0 30000');
    for (let i = 0; i < 500; i += 1) {
      await clock.advance(20_000);
      guard.receive('progress');
    }
    assert.deepEqual([...kernel.frozen], [0]);
  });

  test('ends the freeze at its limit in all, progress or not', async () => {
    const { guard, clock, said, kernel } = startGuard();
    guard.receive('freeze 60000 30000');
    for (let i = 0; i < 6; i += 1) {
      await clock.advance(9999);
      guard.receive('progress');
    }
    assert.deepEqual([...kernel.frozen], [0]);
    await clock.advance(6);
    assert.deepEqual([...kernel.frozen], []);
    assert.deepEqual(said, ['frozen', 'limit max']);
  });

  test('tells when somebody else had thawed', () => {
    const { guard, said, kernel } = startGuard();
    guard.receive('freeze 0 30000');
    kernel.frozen.clear();
    guard.receive('thaw');
    assert.deepEqual(said, ['frozen', 'lost EINVAL']);
  });

  test('ends thawed whatever it hears, once its capture is gone', async () => {
    const command = fc.constantFrom(
      'freeze 0 30000',
      'freeze 500 30000',
      'progress',
      'thaw',
      'x',
      '',
    );
    const step = fc.record({ command, waitMs: fc.integer({ min: 0, max: 40_000 }) });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
        const { guard, clock, kernel } = startGuard(fakeKernel(2));
        for (const { command: line, waitMs } of steps) {
          guard.receive(line);
          await clock.advance(waitMs);
        }
        guard.captureGone();
        assert.deepEqual([...kernel.frozen], []);
      }),
      { numRuns: 60 },
    );
  });
});
