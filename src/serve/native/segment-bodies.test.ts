import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { describe, test } from 'node:test';
import { bytesOf } from '../../../test/contracts/ingest-session.ts';
import { ManualClock } from '../../../test/fakes/manual-clock.ts';
import { isFailure } from '../../base/index.ts';
import type { LentBuffer } from '../../keep/index.ts';
import { SegmentBodies } from './segment-bodies.ts';

const BODY_BYTES = 100_000;

/** Memory as the workers lend it: what is given back is overwritten at once. */
class Lender {
  lentCount = 0;

  async lend(lengthBytes: number): Promise<LentBuffer> {
    this.lentCount += 1;
    const bytes = Buffer.alloc(lengthBytes);
    return {
      bytes,
      [Symbol.dispose]: () => {
        this.lentCount -= 1;
        bytes.fill(0xee);
      },
    };
  }
}

/** A body of which the half has come. */
interface Sender {
  readonly stream: PassThrough;
  readonly whole: Buffer;
  readonly received: Promise<LentBuffer>;
}

class Setup {
  readonly clock = new ManualClock();
  readonly lender = new Lender();
  readonly bodies = new SegmentBodies((lengthBytes) => this.lender.lend(lengthBytes), this.clock);
  #seed = 0;

  async begin(): Promise<Sender> {
    this.#seed += 1;
    const whole = bytesOf(this.#seed, BODY_BYTES);
    const stream = new PassThrough();
    const received = this.bodies.receive(stream, BODY_BYTES);
    received.catch(() => undefined);
    stream.write(whole.subarray(0, BODY_BYTES / 2));
    await turns();
    return { stream, whole, received };
  }
}

/** Lets everything happen that waits for no time. */
async function turns(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
}

async function finish({ stream, whole, received }: Sender): Promise<void> {
  stream.end(whole.subarray(BODY_BYTES / 2));
  using held = await received;
  assert.ok(held.bytes.equals(whole));
}

describe('bodies of segments', () => {
  test('that take long to come hold no lent memory, keep no other, and are whole in the end', async () => {
    const setup = new Setup();
    const slow = [await setup.begin(), await setup.begin(), await setup.begin()];
    const next = await setup.begin();
    assert.equal(setup.lender.lentCount, 3, 'the fourth waits');
    await setup.clock.advance(1000);
    await turns();
    assert.equal(setup.lender.lentCount, 1, 'only the fourth has some');
    await finish(next);
    for (const sender of slow) await finish(sender);
    assert.equal(setup.lender.lentCount, 0);
  });

  test('that come at once are not moved, and stand in line', async () => {
    const setup = new Setup();
    const senders = await Promise.all(Array.from({ length: 6 }, () => setup.begin()));
    assert.equal(setup.lender.lentCount, 3);
    for (const sender of senders) await finish(sender);
    assert.equal(setup.lender.lentCount, 0);
  });

  test('that are slow are so many, the others stay until one of them has gone', async () => {
    const setup = new Setup();
    const slow: Sender[] = [];
    for (let n = 0; n < 11; n++) {
      slow.push(await setup.begin());
      await setup.clock.advance(1000);
      await turns();
    }
    assert.equal(setup.lender.lentCount, 3, 'eight have moved');
    await finish(slow[0] as Sender);
    await setup.clock.advance(1000);
    await turns();
    assert.equal(setup.lender.lentCount, 2);
    for (const sender of slow.slice(1)) await finish(sender);
    assert.equal(setup.lender.lentCount, 0);
  });

  test('that break off give everything back, slow or not', async () => {
    const setup = new Setup();
    const senders: Sender[] = [];
    for (let n = 0; n < 24; n++) {
      const sender = await setup.begin();
      if (n % 2 === 0) await setup.clock.advance(1000);
      sender.stream.destroy(new Error('the sender is gone'));
      await assert.rejects(sender.received, (thrown) => isFailure(thrown, 'request-invalid'));
      senders.push(sender);
    }
    assert.equal(setup.lender.lentCount, 0);
    await finish(await setup.begin());
  });

  test('that are longer than was promised are refused, also when they have moved', async () => {
    const setup = new Setup();
    for (const waitMs of [0, 1000]) {
      const sender = await setup.begin();
      await setup.clock.advance(waitMs);
      sender.stream.end(Buffer.alloc(BODY_BYTES));
      await assert.rejects(sender.received, (thrown) => isFailure(thrown, 'request-too-large'));
      assert.equal(setup.lender.lentCount, 0);
    }
  });
});
