import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  bytesOf,
  descriptionOf,
  ingest,
  segmentOf,
} from '../../../test/contracts/ingest-session.ts';
import { FOREIGN, openTestLibrary, readDisk } from '../../../test/contracts/test-library.ts';
import { ManualClock } from '../../../test/fakes/manual-clock.ts';
import { type Clock, digestOf, type Id, isFailure } from '../../base/index.ts';
import { zlibSegmentCodec } from '../adapters/zlib-segment-codec.ts';
import type { SegmentCodec } from '../chunks/segment-codec.ts';

const QUIET_MS = 5000;
const limits = { quietMs: QUIET_MS };
/** Some steps of 2 MiB. */
const plains = Array.from({ length: 30 }, (_, i) => bytesOf(i, 250_000));
const disk = Buffer.concat(plains);
const segments = plains.map(segmentOf);

type Test = Awaited<ReturnType<typeof openTestLibrary>>;

async function digestOfRow(test: Test, id: Id<'img'>): Promise<string | undefined> {
  return (await test.account.show(id)).plainDigest;
}

/** Waits by the real clock: for work on other threads that no clock of a test moves. */
async function until(isSo: () => Promise<boolean>, advance: () => Promise<void>): Promise<void> {
  for (const deadline = performance.now() + 60_000; !(await isSo()); ) {
    assert.ok(performance.now() < deadline, 'it never happens');
    await advance();
  }
}

describe('the digest of a disk that nobody waits for', () => {
  test('begins once nobody came for a while, and not before', async () => {
    const clock = new ManualClock();
    await using test = await openTestLibrary({ clock, limits });
    const { id } = await ingest(test.account, 'one', segments);
    for (let passed = 0; passed < 4 * QUIET_MS; passed += QUIET_MS - 1) {
      await clock.advance(QUIET_MS - 1);
      assert.equal(await digestOfRow(test, id), undefined);
      await readDisk(test.account, id);
    }
    const session = await test.account.begin(descriptionOf('next'));
    await clock.advance(QUIET_MS - 1);
    await session.have([]);
    await clock.advance(QUIET_MS - 1);
    const [job] = await test.library.jobs.list({ isOpen: true, limit: 1 });
    assert.equal(job?.state, 'queued');
    assert.equal(job.attempts, 0, 'a wait is no attempt');
    await until(
      async () => (await digestOfRow(test, id)) === digestOf(disk),
      () => clock.advance(1),
    );
  });

  test('makes a step a second while others work', async () => {
    const clock = new ManualClock();
    await using test = await openTestLibrary({ clock, limits });
    const { id } = await ingest(test.account, 'one', segments);
    const session = await test.account.begin(descriptionOf('next'));
    await clock.advance(QUIET_MS);
    const beganAt = clock.now();
    await until(
      async () => (await digestOfRow(test, id)) === digestOf(disk),
      async () => {
        await session.have([]);
        await clock.advance(10);
      },
    );
    // Of its four steps one may have come before anybody did.
    assert.ok(clock.now() - beganAt >= 2000, `${clock.now() - beganAt} ms`);
  });

  test('comes at once when somebody asks, whoever works', async () => {
    const clock = new ManualClock();
    await using test = await openTestLibrary({ clock, limits });
    const { id } = await ingest(test.account, 'one', segments);
    await clock.advance(QUIET_MS);
    await (await test.account.begin(descriptionOf('next'))).have([]);
    // No time passes: a step that waits would wait for ever.
    assert.equal(await test.account.plainDigest(id), digestOf(disk));
  });

  test('comes in the end although somebody always works', async () => {
    const clock = new ManualClock();
    await using test = await openTestLibrary({ clock, limits });
    const { id } = await ingest(test.account, 'one', segments);
    const session = await test.account.begin(descriptionOf('next'));
    const beganAt = clock.now();
    await until(
      async () => (await digestOfRow(test, id)) === digestOf(disk),
      async () => {
        await clock.advance(QUIET_MS / 2);
        await session.have([]);
      },
    );
    assert.ok(clock.now() - beganAt >= 300_000);
  });

  test('does not go by the wall clock', async () => {
    const steady = new ManualClock();
    let jumpMs = 0;
    const clock: Clock = {
      now: () => steady.now() + jumpMs,
      monotonic: () => steady.monotonic(),
      sleep: (ms, signal) => steady.sleep(ms, signal),
    };
    await using test = await openTestLibrary({ clock, limits });
    const { id } = await ingest(test.account, 'one', segments);
    for (const jump of [365 * 86_400_000, -3_600_000]) {
      jumpMs = jump;
      await steady.advance(10);
      assert.equal(await digestOfRow(test, id), undefined);
    }
    await until(
      async () => (await digestOfRow(test, id)) === digestOf(disk),
      () => steady.advance(100),
    );
  });

  test('is computed by the next process when one ended over it', async () => {
    const clock = new ManualClock();
    await using test = await openTestLibrary({ clock, limits });
    const endInside = async (turn: number): Promise<Id<'img'>> => {
      const { id } = await ingest(test.account, `turn ${turn}`, segments);
      const begun = clock.advance(QUIET_MS);
      await test.reopen();
      await begun;
      if ((await digestOfRow(test, id)) === undefined) return id;
      // On a busy machine it may be there before the process can end.
      assert.ok(turn < 10, 'it is always there');
      return await endInside(turn + 1);
    };
    const id = await endInside(1);
    await until(
      async () => (await digestOfRow(test, id)) === digestOf(disk),
      () => clock.advance(100),
    );
  });
});

describe('the digest of a disk', () => {
  test('names the chunk that decodes to other bytes', async () => {
    const codec: SegmentCodec = {
      ...zlibSegmentCodec,
      async decode(coded, plainBytes) {
        const plain = await zlibSegmentCodec.decode(coded, plainBytes);
        if (digestOf(plain) === segments[1]?.digest) plain[9] = (plain[9] ?? 0) ^ 1;
        return plain;
      },
    };
    await using test = await openTestLibrary({ codec, limits: { digestBytes: 0 } });
    const { id } = await ingest(test.account, 'one', segments.slice(0, 3));
    await assert.rejects(test.account.plainDigest(id), (error) => {
      assert.ok(isFailure(error, 'chunk-corrupt'));
      assert.equal(error.facts['digest'], segments[1]?.digest);
      return true;
    });
  });

  test('is right for chunks that repeat, and holes between them', async () => {
    await using test = await openTestLibrary({ limits: { digestBytes: 0 } });
    const [one, two] = segments;
    assert.ok(one !== undefined && two !== undefined);
    const { id } = await ingest(test.account, 'one', [one, 70_000, two, one, one, 5_000_000, two]);
    const whole = await readDisk(test.account, id);
    assert.equal(await test.account.plainDigest(id), digestOf(whole));
    await assert.rejects(test.library.forAccount(FOREIGN).plainDigest(id), (error) =>
      isFailure(error, 'image-not-found'),
    );
  });
});
