import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ManualClock } from '../../../test/fakes/manual-clock.ts';
import { isFailure } from '../../base/index.ts';
import { type AnswerPlace, AnswerPlaces } from './answer-places.ts';

const ANSWER = Buffer.alloc(1_000_000, 7);

/** A connection whose reader takes pieces when the test says so. */
class Reader {
  readonly connection = {};
  readonly gone = new AbortController();
  readonly clientId: string;
  takenBytes = 0;
  isQuick = false;
  #take: (() => void) | undefined;

  constructor(clientId = 'cli-aaaaa') {
    this.clientId = clientId;
  }

  get reader() {
    return { clientId: this.clientId, connection: this.connection, gone: this.gone.signal };
  }

  readonly write = (piece: Uint8Array, written: unknown): boolean => {
    const done = written as () => void;
    this.#take = () => {
      this.#take = undefined;
      this.takenBytes += piece.byteLength;
      done();
    };
    if (this.isQuick) this.#take();
    return true;
  };

  takePiece(): void {
    this.#take?.();
  }
}

class Setup {
  readonly clock = new ManualClock();
  /** Answers that are in memory. */
  heldCount = 0;
  mostHeld = 0;
  readonly places = new AnswerPlaces(this.clock, (count) => {
    this.heldCount = count;
    this.mostHeld = Math.max(this.mostHeld, count);
  });

  /** Asks for an answer and has it sent. */
  ask(from: Reader): Promise<void> {
    const sending = this.#serve(from);
    sending.catch(() => undefined);
    return sending;
  }

  async #serve(from: Reader): Promise<void> {
    using place: AnswerPlace = await this.places.enter(from.reader);
    await place.send(from as unknown as Parameters<AnswerPlace['send']>[0], ANSWER);
  }

  /** Readers that ask and then take nothing, eight in a second. */
  async stopped(count: number, clientOf = (n: number) => `cli-${n}`) {
    const all: { readonly from: Reader; readonly sending: Promise<void> }[] = [];
    await this.clock.advance(0);
    for (let n = 0; n < count; n++) {
      const from = new Reader(clientOf(n));
      all.push({ from, sending: this.ask(from) });
      if (n % 8 === 7 || n === count - 1) {
        await this.clock.advance(0);
        await this.clock.advance(1000);
      }
    }
    return all;
  }
}

function quickReader(clientId?: string): Reader {
  const reader = new Reader(clientId);
  reader.isQuick = true;
  return reader;
}

const isRefused = (thrown: unknown): boolean =>
  isFailure(thrown, 'too-many-requests') && thrown.facts['retryAfterSeconds'] === 2;
const isGivenUp = (thrown: unknown): boolean => isFailure(thrown, 'target-closed');

describe('answers in memory', () => {
  test('go out whole, and leave nothing behind', async () => {
    const setup = new Setup();
    const reader = quickReader();
    await setup.ask(reader);
    assert.equal(reader.takenBytes, ANSWER.length);
    assert.equal(setup.heldCount, 0);
  });

  test('whose readers stop are moved aside after a second, and quick ones go on', async () => {
    const setup = new Setup();
    const slow = Array.from({ length: 8 }, () => new Reader());
    const sending = slow.map((reader) => setup.ask(reader));
    const quick = quickReader();
    const next = setup.ask(quick);
    await setup.clock.advance(0);
    await setup.clock.advance(999);
    assert.equal(quick.takenBytes, 0, 'it waits in line');
    await setup.clock.advance(1);
    await next;
    assert.equal(setup.heldCount, 8);
    for (const reader of slow) {
      reader.isQuick = true;
      reader.takePiece();
    }
    await Promise.all(sending);
    assert.equal(setup.heldCount, 0);
  });

  test('are never more than 32, however many readers stop', async () => {
    const setup = new Setup();
    const readers = Array.from({ length: 200 }, (_, n) => new Reader(`cli-${n}`));
    const sending = readers.map((reader) => setup.ask(reader));
    for (let second = 0; second < 400; second++) {
      await setup.clock.advance(1000);
      assert.ok(setup.heldCount <= 32);
    }
    assert.equal(setup.mostHeld, 32);
    const ends = await Promise.allSettled(sending);
    assert.ok(ends.every(({ status }) => status === 'rejected'));
    assert.equal(setup.heldCount, 0);
  });

  test('of quick readers wait at most two seconds, however many readers stop', async () => {
    const setup = new Setup();
    const stopped = await setup.stopped(32);
    // The slow places are taken by readers who took something lately.
    for (const { from } of stopped) from.takePiece();
    const quick = quickReader();
    const next = setup.ask(quick);
    await setup.clock.advance(0);
    assert.equal(quick.takenBytes, 0, 'it waits in line');
    await setup.clock.advance(2000);
    await next;
  });

  test('a reader that takes nothing for two minutes is given up, and no sooner', async () => {
    const setup = new Setup();
    const reader = new Reader();
    const sending = setup.ask(reader);
    await setup.clock.advance(0);
    await setup.clock.advance(100_000);
    reader.takePiece();
    await setup.clock.advance(119_000);
    assert.equal(setup.heldCount, 1);
    await setup.clock.advance(2000);
    await assert.rejects(sending, isGivenUp);
    assert.equal(setup.heldCount, 0);
  });

  test('of silent readers make room for slow ones, not for nobody', async () => {
    const setup = new Setup();
    const stopped = await setup.stopped(24);
    await setup.clock.advance(20_000);
    assert.equal(setup.heldCount, 24);
    const slow = new Reader('cli-slow');
    const sending = setup.ask(slow);
    for (let second = 0; second < 8; second++) {
      await setup.clock.advance(1000);
      slow.takePiece();
    }
    await sending;
    await assert.rejects(stopped[0]?.sending ?? Promise.resolve(), isGivenUp);
  });

  test('of one client leave slow places to others', async () => {
    const setup = new Setup();
    const mine = await setup.stopped(18, () => 'cli-aaaaa');
    const other = new Reader('cli-bbbbb');
    const sending = setup.ask(other);
    await setup.clock.advance(1000);
    assert.equal(setup.heldCount, 19);
    const third = setup.ask(other);
    await setup.clock.advance(0);
    assert.equal(setup.heldCount, 20, 'a connection that is slow finds a slow place at once');
    for (const { from } of mine) from.gone.abort(new Error('gone'));
    other.gone.abort(new Error('gone'));
    await Promise.allSettled([...mine.map((one) => one.sending), sending, third]);
    assert.equal(setup.heldCount, 0);
  });

  test('of a slow connection need a slow place, until it is quick again', async () => {
    const setup = new Setup();
    const slow = new Reader('cli-slow');
    const sending = setup.ask(slow);
    await setup.clock.advance(0);
    await setup.clock.advance(1000);
    slow.isQuick = true;
    slow.takePiece();
    await sending;
    const stopped = await setup.stopped(24);
    assert.equal(setup.heldCount, 24);
    await assert.rejects(setup.ask(slow), isRefused);
    for (const { from } of stopped) from.gone.abort(new Error('gone'));
    await setup.clock.advance(0);
    await setup.ask(slow);
    await setup.stopped(24);
    await setup.ask(slow);
  });

  test('whose readers leave while they wait in line are never made', async () => {
    const setup = new Setup();
    const first = Array.from({ length: 8 }, () => new Reader());
    for (const reader of first) void setup.ask(reader).catch(() => undefined);
    const waiting = new Reader();
    const sending = setup.ask(waiting);
    waiting.gone.abort(new Error('gone'));
    await assert.rejects(sending, /gone/);
    assert.equal(setup.mostHeld, 8);
    for (const reader of first) reader.gone.abort(new Error('gone'));
    await setup.clock.advance(0);
    assert.equal(setup.heldCount, 0);
  });

  test('beyond 512 that wait are refused with a time to come back', async () => {
    const setup = new Setup();
    const readers = Array.from({ length: 520 }, () => new Reader());
    for (const reader of readers) void setup.ask(reader).catch(() => undefined);
    await assert.rejects(setup.ask(new Reader()), isRefused);
    for (const reader of readers) reader.gone.abort(new Error('gone'));
    await setup.clock.advance(0);
    assert.equal(setup.heldCount, 0);
  });
});
