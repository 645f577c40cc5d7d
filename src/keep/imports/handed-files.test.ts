import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ManualClock } from '../../../test/fakes/manual-clock.ts';
import { IngotError, isFailure } from '../../base/index.ts';
import { HandedFiles, type Handover } from './handed-files.ts';

const OWN = 'acc-aaaaa';
const OTHER = 'acc-bbbbb';

/** Places that have something, and count what is open. */
function places() {
  const open = new Set<object>();
  const held = (): { [Symbol.dispose](): void } => {
    const thing = {};
    open.add(thing);
    return { [Symbol.dispose]: () => void open.delete(thing) };
  };
  const openHandover = (key: string): Handover => ({
    ...held(),
    socket: `socket of ${key}`,
    take: async () => {
      const file = held();
      return {
        path: key,
        sizeBytes: 1,
        [Symbol.asyncDispose]: async () => file[Symbol.dispose](),
      };
    },
    takeOutput: async (name) => {
      if (name === 'refused') throw new IngotError('not-allowed', 'as a handover may');
      const file = held();
      return {
        sizeBytes: 1,
        write: async () => undefined,
        flush: async () => undefined,
        [Symbol.asyncDispose]: async () => file[Symbol.dispose](),
      };
    },
  });
  return { open, openHandover };
}

const isRefused = (code: 'source-not-found' | 'too-many-requests') => (thrown: unknown) =>
  isFailure(thrown, code);

describe('files that are handed over', () => {
  test('are taken once, by the account that was offered the place', async () => {
    const { open, openHandover } = places();
    await using handed = new HandedFiles(openHandover, new ManualClock());
    const { key, socket } = handed.offer(OWN);
    assert.equal(socket, `socket of ${key}`);
    await assert.rejects(handed.take(OTHER, key), isRefused('source-not-found'));
    await using file = await handed.take(OWN, key);
    assert.equal(file.path, key);
    await assert.rejects(handed.take(OWN, key), isRefused('source-not-found'));
    assert.equal(open.size, 1);
  });

  test('are awaited for half a minute, and only some at once', async () => {
    const { open, openHandover } = places();
    const clock = new ManualClock();
    await using handed = new HandedFiles(openHandover, clock);
    const keys = Array.from({ length: 8 }, () => handed.offer(OWN).key);
    assert.throws(() => handed.offer(OWN), isRefused('too-many-requests'));
    handed.offer(OTHER);
    await clock.advance(30_000);
    await assert.rejects(handed.take(OWN, keys[0] ?? ''), isRefused('source-not-found'));
    assert.equal(open.size, 0);
    handed.offer(OWN);
  });

  test('are written for one account a few at once, and closed whatever becomes of them', async () => {
    const { open, openHandover } = places();
    await using handed = new HandedFiles(openHandover, new ManualClock());
    const take = (account: typeof OWN | typeof OTHER, name = 'x.mender') =>
      handed.takeOutput(account, handed.offer(account).key, name);
    await assert.rejects(
      handed.takeOutput(OTHER, handed.offer(OWN).key, 'x.mender'),
      isRefused('source-not-found'),
    );
    for (let i = 0; i < 5; i++) {
      await assert.rejects(take(OWN, 'refused'), (thrown) => isFailure(thrown, 'not-allowed'));
    }
    const outputs = [];
    for (let i = 0; i < 4; i++) outputs.push(await take(OWN));
    await assert.rejects(take(OWN), isRefused('too-many-requests'));
    outputs.push(await take(OTHER));
    for (const output of outputs.slice(1)) await output[Symbol.asyncDispose]();
    await outputs[1]?.[Symbol.asyncDispose]();
    for (let i = 0; i < 3; i++) outputs.push(await take(OWN));
    await assert.rejects(take(OWN), isRefused('too-many-requests'));
    for (const output of outputs) await output[Symbol.asyncDispose]();
    assert.equal(open.size, 1, 'the offer that nobody took');
  });

  test('stay open until their import has ended, or the daemon ends', async () => {
    const { open, openHandover } = places();
    {
      await using handed = new HandedFiles(openHandover, new ManualClock());
      for (const id of ['img-aaaaa', 'img-bbbbb'] as const) {
        handed.keep(id, await handed.take(OWN, handed.offer(OWN).key));
      }
      handed.offer(OWN);
      assert.equal(open.size, 3);
      await handed.forget('img-aaaaa');
      assert.equal(handed.fileOf('img-aaaaa'), undefined);
      assert.equal(open.size, 2);
    }
    assert.equal(open.size, 0);
  });
});
