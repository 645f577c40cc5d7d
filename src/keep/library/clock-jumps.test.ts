import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import {
  bytesOf,
  descriptionOf,
  entriesOf,
  ingest,
  segmentOf,
  streamOf,
  summaryOf,
} from '../../../test/contracts/ingest-session.ts';
import { openTestLibrary, readDisk } from '../../../test/contracts/test-library.ts';
import { type Clock, isFailure, silentLog, systemClock } from '../../base/index.ts';
import { memoryCatalogue } from '../adapters/sqlite-catalogue.ts';
import { JobRunner } from '../jobs/job-runner.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const JUMPS = { 'a year forwards': 365 * DAY_MS, 'an hour backwards': -HOUR_MS };

/** A clock that somebody sets. */
class SetClock implements Clock {
  offsetMs = 0;
  now(): number {
    return systemClock.now() + this.offsetMs;
  }
  monotonic(): number {
    return systemClock.monotonic();
  }
  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return systemClock.sleep(ms, signal);
  }
}

const segments = Array.from({ length: 20 }, (_, i) => segmentOf(bytesOf(i, 4000)));

for (const [jump, offsetMs] of Object.entries(JUMPS)) {
  describe(`a clock that jumps ${jump}`, () => {
    test('ends no ingest, and a collection takes nothing from it', async () => {
      const clock = new SetClock();
      await using test = await openTestLibrary({ clock, limits: { digestBytes: 0 } });
      const kept = await ingest(test.account, 'kept', [segmentOf(bytesOf(99, 9000))]);
      const session = await test.account.begin(descriptionOf('open'));
      await session.put(segments);
      clock.offsetMs = offsetMs;
      await test.library.collect({ isForced: true });
      const entries = entriesOf(segments);
      const image = await session.commit(streamOf(entries), summaryOf(80_000));
      assert.equal((await readDisk(test.account, image.id)).length, 80_000);
      assert.equal((await readDisk(test.account, kept.id)).length, 9000);
      assert.equal((await test.library.verify()).isClean, true);
    });

    test('takes no chunk from an open download', async () => {
      const clock = new SetClock();
      await using test = await openTestLibrary({ clock, limits: { digestBytes: 0 } });
      const { id } = await ingest(test.account, 'read', segments);
      await using open = await test.account.open(id);
      await test.account.destroy(id);
      clock.offsetMs = offsetMs;
      await test.library.collect({ isForced: true });
      const entries = await open.page(0);
      const chunks = entries.filter((entry) => entry.kind === 'chunk');
      const coded = await open.readCoded(chunks);
      assert.deepEqual(
        coded.map((one) => one.length),
        segments.map((segment) => segment.coded.length),
      );
    });

    test('lets a running job run, once, to its end', async () => {
      const clock = new SetClock();
      await using catalogue = memoryCatalogue();
      const go = Promise.withResolvers<string>();
      const inside = Promise.withResolvers<void>();
      let begun = 0;
      await using runner = new JobRunner(catalogue, clock, silentLog, {
        verify: () => {
          begun += 1;
          inside.resolve();
          return go.promise;
        },
        collect: async () => 'collected',
      });
      await runner.start();
      const job = await runner.add('verify', '');
      await inside.promise;
      clock.offsetMs = offsetMs;
      // Another job makes the runner look for work.
      const other = await runner.add('collect', '');
      const ended = AbortSignal.timeout(60_000);
      for await (const now of runner.watch(other.id, ended)) if (now.state === 'done') break;
      assert.equal(begun, 1, 'the job runs twice');
      go.resolve('whole');
      for await (const now of runner.watch(job.id, AbortSignal.timeout(60_000))) {
        assert.ok(['running', 'done'].includes(now.state));
      }
      assert.equal((await runner.show(job.id)).outcome, 'whole');
    });

    test('does not end the making of backups, and no backup is lost that was just made', async () => {
      const clock = new SetClock();
      await using test = await openTestLibrary({ clock, limits: { digestBytes: 0 } });
      for (let i = 0; i < 15; i++) {
        await test.library.backup();
        clock.offsetMs += 1000;
      }
      clock.offsetMs = offsetMs;
      const path = await test.library.backup();
      const names = readdirSync(join(test.folder, 'backups'));
      assert.ok(names.includes(path.slice('backups/'.length)), `${path} is gone`);
      assert.equal(names.length, 14);
    });

    test('leaves a library that opens again', async () => {
      const clock = new SetClock();
      await using test = await openTestLibrary({ clock, limits: { digestBytes: 0 } });
      const { id } = await ingest(test.account, 'one', segments);
      clock.offsetMs = offsetMs;
      await test.reopen();
      assert.equal((await readDisk(test.account, id)).length, 80_000);
      const { id: later } = await ingest(test.account, 'two', segments.slice(5));
      assert.equal((await readDisk(test.account, later)).length, 60_000);
      await assert.rejects(test.account.open('img-zzzzz'), (thrown) =>
        isFailure(thrown, 'image-not-found'),
      );
    });
  });
}
