import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, test } from 'node:test';
import { ManualClock } from '../../../test/fakes/manual-clock.ts';
import { IngotError, silentLog, systemClock } from '../../base/index.ts';
import { memoryCatalogue } from '../adapters/sqlite-catalogue.ts';
import type { Job, JobCatalogue } from './job-catalogue.ts';
import { type JobControl, JobRunner, type JobWork } from './job-runner.ts';

const NEVER = new AbortController().signal;

async function ended(runner: JobRunner, job: Job): Promise<Job> {
  let last = job;
  for await (const now of runner.watch(job.id, NEVER)) last = now;
  return last;
}

/** Time that does not pass by itself but for short waits. */
const clock = {
  ...systemClock,
  sleep: (ms: number, signal?: AbortSignal) => systemClock.sleep(ms / 50, signal),
};

function runnerOf(catalogue: ReturnType<typeof memoryCatalogue>, work: JobWork): JobRunner {
  return new JobRunner(catalogue, clock, silentLog, { verify: work });
}

describe('jobs', () => {
  test('a job runs, tells its progress, and its outcome stays', async () => {
    await using catalogue = memoryCatalogue();
    const inside = Promise.withResolvers<void>();
    const go = Promise.withResolvers<void>();
    await using runner = runnerOf(catalogue, async (_job, control) => {
      control.onProgress({ doneBytes: 3, totalBytes: 7, stage: 'reading' });
      inside.resolve();
      await go.promise;
      return '{"fine":true}';
    });
    const job = await runner.add('verify', '');
    await inside.promise;
    const now = await runner.show(job.id);
    assert.deepEqual([now.state, now.doneBytes, now.totalBytes], ['running', 3, 7]);
    go.resolve();
    const end = await ended(runner, job);
    assert.deepEqual([end.state, end.outcome], ['done', '{"fine":true}']);
  });

  test('whoever watches a job hears of its end at once', async () => {
    await using catalogue = memoryCatalogue();
    const go = Promise.withResolvers<string>();
    // No time passes: only the end itself can end the watch.
    await using runner = new JobRunner(catalogue, new ManualClock(), silentLog, {
      verify: () => go.promise,
      collect: async (_job, { signal }) => {
        await once(signal, 'abort');
        throw signal.reason;
      },
    });
    const finished = ended(runner, await runner.add('verify', ''));
    const collecting = await runner.add('collect', '');
    const cancelled = ended(runner, collecting);
    go.resolve('');
    assert.equal((await finished).state, 'done');
    await runner.cancel(collecting.id);
    assert.equal((await cancelled).state, 'cancelled');
  });

  test('the same work twice is one job', async () => {
    await using catalogue = memoryCatalogue();
    const go = Promise.withResolvers<string>();
    await using runner = runnerOf(catalogue, () => go.promise);
    const jobs = await Promise.all([runner.add('verify', ''), runner.add('verify', '')]);
    assert.equal(jobs[0].id, jobs[1].id);
    go.resolve('');
    assert.equal((await ended(runner, jobs[0])).attempts, 1);
  });

  test('a runner that ends takes none of the jobs that it gives back', async () => {
    await using catalogue = memoryCatalogue();
    const released = Promise.withResolvers<void>();
    let claims = 0;
    const slow: JobCatalogue = Object.assign(Object.create(catalogue), {
      // The first takes the job, the second still looks while the runner ends, the third waits.
      claimJob: async (...about: Parameters<JobCatalogue['claimJob']>) => {
        claims += 1;
        if (claims === 2) await released.promise;
        return claims === 2 ? undefined : await catalogue.claimJob(...about);
      },
      releaseJob: async (...about: Parameters<JobCatalogue['releaseJob']>) => {
        await catalogue.releaseJob(...about);
        released.resolve();
      },
    });
    const inside = Promise.withResolvers<void>();
    let begun = 0;
    const works = {
      verify: async (_job: Job, { signal }: JobControl) => {
        begun += 1;
        inside.resolve();
        await systemClock.sleep(60_000, signal);
        return '';
      },
    };
    const runner = new JobRunner(slow, clock, silentLog, works, 3);
    const job = await runner.add('verify', '');
    await inside.promise;
    await runner[Symbol.asyncDispose]();
    assert.equal(begun, 1);
    assert.equal((await runner.show(job.id)).state, 'queued');
  });

  test('a failure is kept with its code', async () => {
    await using catalogue = memoryCatalogue();
    await using runner = runnerOf(catalogue, () =>
      Promise.reject(new IngotError('chunk-corrupt', 'it is corrupt')),
    );
    const end = await ended(runner, await runner.add('verify', ''));
    assert.equal(end.state, 'failed');
    assert.deepEqual(JSON.parse(end.outcome), { code: 'chunk-corrupt', message: 'it is corrupt' });
  });

  test('a cancelled job is told, and stays cancelled', async () => {
    await using catalogue = memoryCatalogue();
    const inside = Promise.withResolvers<void>();
    await using runner = runnerOf(catalogue, async (_job, { signal }) => {
      inside.resolve();
      await systemClock.sleep(60_000, signal);
      return '';
    });
    const job = await runner.add('verify', '');
    await inside.promise;
    await runner.cancel(job.id);
    assert.equal((await ended(runner, job)).state, 'cancelled');
  });

  test('what an ended daemon was doing goes on from its checkpoint, however often it ends', async () => {
    await using catalogue = memoryCatalogue();
    const seen: string[] = [];
    let job: Job | undefined;
    for (let attempt = 1; attempt <= 5; attempt++) {
      const inside = Promise.withResolvers<void>();
      await using runner = runnerOf(catalogue, async (_job, control) => {
        seen.push(control.checkpoint);
        await control.keep(`after ${attempt}`);
        inside.resolve();
        await systemClock.sleep(60_000, control.signal);
        return '';
      });
      await runner.start();
      job ??= await runner.add('verify', '');
      await inside.promise;
    }
    assert.deepEqual(seen, ['', 'after 1', 'after 2', 'after 3', 'after 4']);
    await using runner = runnerOf(catalogue, async () => '');
    await runner.start();
    assert.ok(job !== undefined);
    assert.equal((await ended(runner, job)).state, 'done');
  });

  test('what three daemons have crashed over is given up, and cleaned up after', async () => {
    await using catalogue = memoryCatalogue();
    const given: string[] = [];
    await using runner = new JobRunner(catalogue, clock, silentLog, {});
    const job = await runner.add('verify', '');
    for (const [n, crashed] of ['one', 'two', 'three'].entries()) {
      assert.equal((await catalogue.claimJob(crashed, n, n + 1, ['verify']))?.id, job.id);
    }
    runner.learn('verify', async () => 'never', {
      onGivenUp: async ({ id }, reason) => void given.push(`${id} ${String(reason)}`),
    });
    await runner.start();
    assert.equal((await ended(runner, job)).state, 'failed');
    assert.match(given.join(), new RegExp(`^${job.id} .*was given up after 3 attempts`));
  });

  test('jobs of a kind with a number of its own leave places for others', async () => {
    await using catalogue = memoryCatalogue();
    const go = Promise.withResolvers<string>();
    await using runner = runnerOf(catalogue, async () => 'verified');
    let running = 0;
    let most = 0;
    const work: JobWork = async () => {
      running += 1;
      most = Math.max(most, running);
      await go.promise;
      running -= 1;
      return '';
    };
    runner.learn('import', work, { atOnce: 2 });
    const imports = await Promise.all(
      ['a', 'b', 'c', 'd', 'e'].map((x) => runner.add('import', x)),
    );
    assert.equal((await ended(runner, await runner.add('verify', ''))).state, 'done');
    go.resolve('');
    for (const job of imports) assert.equal((await ended(runner, job)).state, 'done');
    assert.equal(most, 2);
  });
});
