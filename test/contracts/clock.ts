import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Clock } from '../../src/base/index.ts';

/**
 * What every {@link Clock} promises.
 *
 * @param pass lets time pass on it
 */
export function clockContract(
  name: string,
  clock: Clock,
  pass: (ms: number) => Promise<void>,
): void {
  describe(`a clock: ${name}`, () => {
    test('has times that go on together', async () => {
      const [wall, steady] = [clock.now(), clock.monotonic()];
      await pass(20);
      assert.ok(clock.monotonic() - steady >= 19);
      assert.ok(clock.now() - wall >= 19);
      assert.ok(clock.now() > Date.UTC(2020, 0, 1));
    });

    test('lets one sleep as long as was said, the shorter sleep first', async () => {
      const began = clock.monotonic();
      const woken: number[] = [];
      const due = new Map<number, number>();
      const sleeps = [40, 10].map(async (ms) => {
        due.set(ms, clock.monotonic() + ms);
        await clock.sleep(ms);
        woken.push(ms);
        assert.ok(clock.monotonic() - began >= ms - 1);
      });
      await pass(60);
      await Promise.all(sleeps);
      // On a busy machine the second may begin when the first is nearly over.
      const order = [...due].sort(([, a], [, b]) => a - b).map(([ms]) => ms);
      assert.deepEqual(woken, order);
    });

    test('ends a sleep by its signal, with the reason, before or while it lasts', async () => {
      const reason = new Error('enough');
      await assert.rejects(clock.sleep(60_000, AbortSignal.abort(reason)), reason);
      const abort = new AbortController();
      const sleep = clock.sleep(60_000, abort.signal);
      abort.abort(reason);
      await assert.rejects(sleep, reason);
    });
  });
}
