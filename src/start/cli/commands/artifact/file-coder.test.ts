import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { inflateRawSync, constants as zlib } from 'node:zlib';
import { isFailure } from '../../../../base/index.ts';
import { openZlibSegmentEngine } from '../../../../keep/adapters/zlib-segment-engine.ts';
import { type CodingResult, type CodingTask, CodingTasks } from './coding-tasks.ts';
import { type ColdReader, FileCoder, type FileThread } from './file-coder.ts';
import { placesOf, WINDOW_BYTES } from './file-places.ts';

const folder = mkdtempSync(join(tmpdir(), 'ingot-file-coder-'));
const path = join(folder, 'image');
const fd = openSync(path, 'w+');
after(() => {
  closeSync(fd);
  rmSync(folder, { recursive: true });
});

const WINDOWS = 40;
const HOLE = { from: 5, to: 25 };
for (let i = 0; i <= WINDOWS; i++) {
  if (i >= HOLE.from && i < HOLE.to) continue;
  const lengthBytes = i === WINDOWS ? 77 : WINDOW_BYTES;
  writeSync(fd, Buffer.alloc(lengthBytes, `window ${i} `), 0, lengthBytes, i * WINDOW_BYTES);
}
const plain = readFileSync(path);
const sha256 = createHash('sha256').update(plain).digest();

/** A thread that is none: it does its tasks in order, each after so many turns of the event loop. */
class FakeThread implements FileThread {
  load = 0;
  readonly seen: CodingTask[] = [];
  readonly #tasks = new CodingTasks(fd, openZlibSegmentEngine());
  readonly #turns: (task: CodingTask) => number;
  readonly #change: (task: CodingTask, result: CodingResult) => CodingResult;
  #before: Promise<unknown> = Promise.resolve();

  constructor(
    turns: (task: CodingTask) => number,
    change: (task: CodingTask, result: CodingResult) => CodingResult = (_, result) => result,
  ) {
    this.#turns = turns;
    this.#change = change;
  }

  async run(task: CodingTask): Promise<CodingResult> {
    this.seen.push(task);
    this.load += 1;
    const done = this.#before.then(async () => {
      for (let left = this.#turns(task); left > 0; left--) await turn();
      return this.#change(task, this.#tasks.do(task));
    });
    this.#before = done.catch(() => undefined);
    try {
      return await done;
    } finally {
      this.load -= 1;
    }
  }

  /** Tasks of a kind without a room: what another read too. */
  readAgain(kind: 'hash' | 'code'): number {
    return this.seen.filter((task) => task.kind === kind && task.room === undefined).length;
  }
}

const WARM: ColdReader = { isCold: () => false, readInto: () => assert.fail('all is warm') };

function coderOf(threads: readonly FileThread[], coldReader = WARM): FileCoder {
  const dataBytes = (WINDOWS - HOLE.to + HOLE.from) * WINDOW_BYTES;
  const places = placesOf(fd, plain.length);
  const sizeBytes = plain.length;
  const onHashed = (): void => undefined;
  const size = { sizeBytes, dataBytes };
  return new FileCoder({ path, places, ...size, isHashed: true, threads, coldReader, onHashed });
}

async function expectWhole(coder: FileCoder): Promise<void> {
  const pieces: Buffer[] = [];
  for (;;) {
    const part = await coder.next();
    if (part === undefined) break;
    let at = 0;
    for (const { plainBytes, codedBytes } of part.runs) {
      const coded = part.target?.subarray(at, at + codedBytes) ?? Buffer.alloc(0);
      at += codedBytes;
      pieces.push(
        codedBytes === 0
          ? Buffer.alloc(plainBytes)
          : inflateRawSync(coded, { finishFlush: zlib.Z_SYNC_FLUSH }),
      );
    }
    if (part.target !== undefined) coder.giveBack(part.target);
  }
  assert.ok(Buffer.concat(pieces).equals(plain));
  assert.ok(sha256.equals(await coder.sha256));
}

const isHash = (task: CodingTask): boolean => task.kind !== 'code';
/** Elapsed time as if both did so many bytes in a millisecond. */
const paced =
  (hashBytes: number, codeBytes: number) =>
  (task: CodingTask, result: CodingResult): CodingResult => {
    const bytes = 'lengthBytes' in task ? task.lengthBytes : 0;
    return { ...result, elapsedMs: bytes / (isHash(task) ? hashBytes : codeBytes) };
  };

describe('work on a file that is shared out', () => {
  test('is read once where coding takes longer than hashing, and the chain codes too', async () => {
    // All of the file is hashed in the time in which one window is coded.
    const change = paced(1_000_000, 10_000);
    const chain = new FakeThread(() => 1, change);
    const other = new FakeThread(() => 4, change);
    await expectWhole(coderOf([chain, other]));
    assert.equal(chain.readAgain('hash'), other.readAgain('code'));
    assert.ok(other.readAgain('code') <= 2, 'only before the chain has begun');
    assert.ok(chain.seen.some((task) => task.kind === 'code'));
  });

  test('lets the chain go on where it would end last, and reads again', async () => {
    const change = paced(10_000, 20_000);
    const chain = new FakeThread(() => 1, change);
    const others = [1, 2].map(() => new FakeThread(() => 40, change));
    await expectWhole(coderOf([chain, ...others]));
    assert.ok(chain.readAgain('hash') > 2);
    const kinds = chain.seen.map(({ kind }) => kind);
    assert.ok(!kinds.slice(0, kinds.indexOf('digest')).includes('code'), kinds.join());
  });

  test('is coded ahead of the chain while that is in a hole', async () => {
    const change = paced(10_000, 10_000);
    const chain = new FakeThread((task) => (task.kind === 'hash-zeros' ? 100 : 1), change);
    const other = new FakeThread(() => 1, change);
    await expectWhole(coderOf([chain, other]));
    assert.ok(other.readAgain('code') > 5);
  });

  test('is read ahead for the chain where it is cold, in parts and as far as it is', async () => {
    let places = 0;
    const cold: ColdReader = {
      isCold: (_, offsetBytes) => offsetBytes >= 3 * WINDOW_BYTES && offsetBytes % 4096 === 0,
      readInto: async (target, offsetBytes) => {
        places += 1;
        await turn();
        const count = Math.min(target.length, 700_001);
        return plain.copy(target, 0, offsetBytes, offsetBytes + count);
      },
    };
    const change = paced(1_000_000, 10_000);
    const chain = new FakeThread(() => 1, change);
    await expectWhole(coderOf([chain, new FakeThread(() => 4, change)], cold));
    assert.ok(places > 10);
    assert.ok(chain.seen.some((task) => task.kind === 'hash' && task.isFilled));
  });

  test('is refused where it ends too early, or cannot be read, while it is read ahead', async () => {
    const eio = Object.assign(new Error('read'), { code: 'EIO' });
    for (const [readInto, code] of [
      [() => Promise.resolve(0), 'content-changed'],
      [() => Promise.reject(eio), 'source-unreadable'],
    ] as const) {
      const coder = coderOf([new FakeThread(() => 1)], { isCold: () => true, readInto });
      await assert.rejects(expectWhole(coder), (thrown) => isFailure(thrown, code));
      await coder.end();
    }
  });

  test('is refused when two who read the same place found other bytes', async () => {
    const change = (_: CodingTask, result: CodingResult): CodingResult =>
      result.crc32 === undefined ? result : { ...result, crc32: result.crc32 ^ 1 };
    const chain = new FakeThread(() => 5, change);
    const coder = coderOf([chain, new FakeThread(() => 1)]);
    await assert.rejects(expectWhole(coder), (thrown) => isFailure(thrown, 'content-changed'));
  });

  test('ends for all who wait when a thread dies, or a place cannot be read', async () => {
    for (const [isDead, expected] of [
      [true, /has died/],
      [false, /EIO at byte/],
    ] as const) {
      const dying = new FakeThread(
        () => 1,
        (task, result) => {
          if (task.kind !== 'code') return result;
          if (isDead) throw new Error('has died');
          return { elapsedMs: 0, problem: 'EIO' };
        },
      );
      const coder = coderOf([new FakeThread(() => 1), dying]);
      await assert.rejects(expectWhole(coder), expected);
      await assert.rejects(coder.sha256, expected);
      await assert.rejects(coder.next(), expected);
    }
  });
});
