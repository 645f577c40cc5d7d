import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ManualClock } from '../../../test/fakes/manual-clock.ts';
import { newId, silentLog } from '../../base/index.ts';
import { memoryCatalogue } from '../adapters/sqlite-catalogue.ts';
import { JobRunner } from './job-runner.ts';
import { type Schedule, Schedules } from './schedules.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const START = Date.UTC(2026, 0, 1, 12);

/** Again and again, so long after each multiple of the period. */
function each(periodMs: number, kind: Schedule['kind'], afterMs: number): Schedule {
  return {
    kind,
    pattern: 'again',
    nextAfter: (ms) => Math.floor((ms - afterMs) / periodMs + 1) * periodMs + afterMs,
  };
}

class Stage implements AsyncDisposable {
  readonly clock = new ManualClock(START);
  readonly catalogue = memoryCatalogue();
  readonly done: string[] = [];
  hold: Promise<void> | undefined;
  #runner: JobRunner | undefined;
  schedules: Schedules | undefined;

  async start(periodMs = DAY_MS): Promise<void> {
    const { catalogue, clock } = this;
    const work = (kind: string) => async (): Promise<string> => {
      this.done.push(`${kind} ${new Date(clock.now()).toISOString().slice(5, 16)}`);
      await this.hold;
      return '{}';
    };
    const works = { verify: work('verify'), backup: work('backup') };
    const jobs = new JobRunner(catalogue, clock, silentLog, works);
    await jobs.start();
    this.#runner = jobs;
    const parts = { catalogue, jobs, clock, log: silentLog, madeAt: START };
    this.schedules = new Schedules(parts, [
      each(periodMs, 'backup', periodMs / 24),
      each(periodMs, 'verify', periodMs / 8),
    ]);
  }

  async stop(): Promise<void> {
    await this.schedules?.[Symbol.asyncDispose]();
    await this.#runner?.[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await this.catalogue[Symbol.asyncDispose]();
  }
}

describe('schedules', () => {
  test('queue work each time, once', async () => {
    await using stage = new Stage();
    await stage.start(HOUR_MS);
    await stage.clock.advance(120_000);
    assert.deepEqual(stage.done, []);
    await stage.clock.advance(2 * HOUR_MS - 120_000);
    assert.deepEqual(stage.done, [
      ...['backup 01-01T12:02', 'verify 01-01T12:07'],
      ...['backup 01-01T13:02', 'verify 01-01T13:07'],
    ]);
  });

  test('make up for a night in which no daemon ran, and not for each of them', async () => {
    await using stage = new Stage();
    await stage.start();
    await stage.stop();
    await stage.clock.advance(5 * DAY_MS);
    await stage.start();
    await stage.clock.advance(HOUR_MS);
    assert.deepEqual(stage.done, ['backup 01-06T12:00', 'verify 01-06T12:00']);
    assert.equal((await stage.schedules?.list())?.[0]?.nextAt, Date.UTC(2026, 0, 7, 1));
  });

  test('begin nothing while the last one still runs, and count what people asked for', async () => {
    await using stage = new Stage();
    const go = Promise.withResolvers<void>();
    stage.hold = go.promise;
    const period = 240_000;
    await stage.start(period);
    await stage.clock.advance(3 * period);
    assert.deepEqual(stage.done, ['backup 01-01T12:00', 'verify 01-01T12:00']);
    go.resolve();
    await stage.clock.advance(60_000);
    assert.equal(stage.done.length, 4);
    const [backup] = (await stage.schedules?.list()) ?? [];
    assert.deepEqual([backup?.kind, backup?.last?.state], ['backup', 'done']);
    assert.equal(backup?.nextAt, START + 4 * period + 10_000);
  });

  test('do not wait for the next time of a clock that was once a year ahead', async () => {
    await using stage = new Stage();
    const future = START + 365 * DAY_MS;
    for (const kind of ['backup', 'verify'] as const) {
      await stage.catalogue.addJob({
        id: newId('job'),
        kind,
        subject: '',
        accountId: undefined,
        state: 'done',
        owner: '',
        leaseUntil: 0,
        attempts: 1,
        doneBytes: 0,
        totalBytes: undefined,
        stage: '',
        checkpoint: '',
        outcome: '{}',
        createdAt: future,
        finishedAt: future,
      });
    }
    await stage.start();
    await stage.clock.advance(120_000);
    assert.equal(stage.done.length, 2);
    await stage.clock.advance(DAY_MS);
    assert.equal(stage.done.length, 4, 'once a day from then on');
  });
});
