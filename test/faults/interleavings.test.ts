/**
 * Every order in which acts of one library can meet, up to a bound on preemptions, and some by chance.
 *
 * `INGOT_MORE_PREEMPTIONS` raises the bound of all scenarios, `INGOT_FAULT_SEEDS` says how many
 * schedules by chance follow, `INGOT_FAULT_SEED` where they begin. A failure names its schedule;
 * `INGOT_SCHEDULE='scenario: schedule'` plays that one alone.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { SCENARIOS } from './interleaved-acts.ts';
import type { PlayOrder, PlayReport } from './interleavings-worker.ts';

const { INGOT_MORE_PREEMPTIONS, INGOT_FAULT_SEEDS, INGOT_FAULT_SEED, INGOT_SCHEDULE } = process.env;
const seeds = Number(INGOT_FAULT_SEEDS ?? 10);
const firstSeed = Number(INGOT_FAULT_SEED ?? 1);

async function play(order: PlayOrder): Promise<PlayReport> {
  const worker = new Worker(new URL('./interleavings-worker.ts', import.meta.url), {
    workerData: order,
  });
  const over = Promise.withResolvers<PlayReport>();
  worker.once('message', over.resolve).once('error', over.reject);
  worker.once('exit', () => over.reject(new Error(`nothing goes on before ${order.scenario}`)));
  return await over.promise;
}

describe('beside each other', { concurrency: 2 }, () => {
  for (const [scenario, { preemptions }] of Object.entries(SCENARIOS)) {
    if (INGOT_SCHEDULE !== undefined) continue;
    test(`${scenario}: it harms nothing, whoever goes first`, async (context) => {
      const most = preemptions + Number(INGOT_MORE_PREEMPTIONS ?? 0);
      const report = await play({ scenario, preemptions: most, seeds, firstSeed });
      const { schedules, byChance, points } = report;
      context.diagnostic(
        `${scenario}: all ${schedules} schedules with at most ${most} preemptions at ${points} places, ${byChance} by chance`,
      );
      assert.ok(schedules > 1 && points > 10, `${schedules} schedules, ${points} places`);
    });
  }
  if (INGOT_SCHEDULE !== undefined) {
    test(`the schedule ${INGOT_SCHEDULE} harms nothing`, async () => {
      const [scenario = '', ...switches] = INGOT_SCHEDULE.split(': ');
      const schedule = switches.join(' ');
      await play({ scenario, schedule, preemptions: 0, seeds: 0, firstSeed });
    });
  }
});
