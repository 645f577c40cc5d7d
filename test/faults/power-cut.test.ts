import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isFailure } from '../../src/base/index.ts';
import type { Segment } from '../../src/bytes/index.ts';
import { ingest } from '../contracts/ingest-session.ts';
import { PowerCut } from './simulated-disk.ts';
import { plainSegment, readPlain, SimulatedLibrary } from './simulated-library.ts';

type Parts = readonly (Segment | number)[];

const FIRST: Parts = [...chunks(0, 12), 5000];
const SECOND: Parts = [...chunks(4, 14), 700];
const THIRD: Parts = chunks(16, 8);

function chunks(from: number, count: number): Segment[] {
  return Array.from({ length: count }, (_, i) => plainSegment(from + i, 1500 + i));
}

function bytesOf(parts: Parts): Buffer {
  return Buffer.concat(
    parts.map((part) => (typeof part === 'number' ? Buffer.alloc(part) : Buffer.from(part.coded))),
  );
}

/** What was acknowledged, and what was asked for without an answer. */
interface Story {
  readonly acknowledged: Map<string, Parts>;
  readonly destroyed: Set<string>;
  /** Names whose fate is open: they may be whole or absent, but nothing in between. */
  readonly open: Map<string, Parts>;
}

type Act = (world: SimulatedLibrary, story: Story) => Promise<void>;

async function take(
  world: SimulatedLibrary,
  story: Story,
  name: string,
  parts: Parts,
): Promise<void> {
  story.open.set(name, parts);
  await ingest(world.account, name, parts);
  story.open.delete(name);
  story.acknowledged.set(name, parts);
}

async function destroy(world: SimulatedLibrary, story: Story, name: string): Promise<void> {
  const image = (await world.account.list()).find((one) => one.name === name);
  assert.ok(image !== undefined);
  const parts = story.acknowledged.get(name) ?? [];
  story.acknowledged.delete(name);
  story.open.set(name, parts);
  await world.account.destroy(image.id);
  story.open.delete(name);
  story.destroyed.add(name);
}

const ACTS: Record<string, { readonly before: Act; readonly act: Act }> = {
  ingest: {
    before: (world, story) => take(world, story, 'first', FIRST),
    act: (world, story) => take(world, story, 'second', SECOND),
  },
  'an aborted ingest': {
    before: (world, story) => take(world, story, 'first', FIRST),
    act: async (world) => {
      const session = await world.account.begin({
        name: 'aborted',
        description: '',
        kind: 'upload',
        arch: 'x86_64',
        ancestorId: undefined,
        compatibilityMode: false,
      });
      await session.put(THIRD.filter((part) => typeof part !== 'number'));
      await session.abort();
    },
  },
  'changes and deletion': {
    before: async (world, story) => {
      await take(world, story, 'first', FIRST);
      await take(world, story, 'second', SECOND);
    },
    act: async (world, story) => {
      const image = (await world.account.list()).find(({ name }) => name === 'second');
      await world.account.update(image?.id ?? '', { description: 'changed' });
      await destroy(world, story, 'first');
    },
  },
  collection: {
    before: async (world, story) => {
      await take(world, story, 'first', FIRST);
      await take(world, story, 'second', SECOND);
      await take(world, story, 'third', THIRD);
      await destroy(world, story, 'first');
    },
    act: async (world) => {
      await world.library.collect({ isForced: true });
    },
  },
  rebuild: {
    before: async (world, story) => {
      await take(world, story, 'first', FIRST);
      await take(world, story, 'second', SECOND);
      await destroy(world, story, 'first');
    },
    act: (world) => world.reopen({ isRebuild: true }),
  },
};

/** Whatever was acknowledged is whole; whatever was not is whole or absent; nothing is damaged. */
async function checkWorld(world: SimulatedLibrary, story: Story, context: string): Promise<void> {
  const report = await world.library.verify();
  assert.deepEqual({ ...report, checkedBytes: 0, checkedChunks: 0 }, CLEAN, context);
  const images = new Map((await world.account.list()).map((image) => [image.name, image.id]));
  for (const [name, parts] of story.acknowledged) {
    const id = images.get(name);
    assert.ok(id !== undefined, `${name} is lost: ${context}`);
    assert.ok((await readPlain(world.account, id)).equals(bytesOf(parts)), context);
  }
  for (const [name, id] of images) {
    assert.ok(!story.destroyed.has(name), `${name} is back: ${context}`);
    const parts = story.acknowledged.get(name) ?? story.open.get(name);
    assert.ok(parts !== undefined, `${name} is visible: ${context}`);
    assert.ok((await readPlain(world.account, id)).equals(bytesOf(parts)), context);
  }
  assert.deepEqual(await world.disk.list('incoming'), [], context);
}

const CLEAN = {
  isClean: true,
  checkedChunks: 0,
  checkedBytes: 0,
  corruptChunks: [],
  corruptPacks: [],
  damage: [],
  damagedImages: [],
};

/**
 * Plays one act, with the power going at its operation number `cutAt`, and looks at what is left.
 *
 * @returns false when the act ended before
 */
async function play(name: string, cutAt: number, seed: number): Promise<boolean> {
  const { before, act } = ACTS[name] as { before: Act; act: Act };
  const story: Story = { acknowledged: new Map(), destroyed: new Set(), open: new Map() };
  const world = new SimulatedLibrary(seed);
  await world.open();
  await before(world, story);
  const start = world.machine.operations;
  world.machine.cutAt = start + cutAt;
  let wasCut = false;
  try {
    await act(world, story);
  } catch (error) {
    if (!(error instanceof PowerCut) && !isFailure(error)) throw error;
    wasCut = true;
  }
  // Work in the background may meet the cut after the act was acknowledged.
  const context = `${name}, operation ${cutAt}, seed ${seed}: ${world.machine.history.at(-1)}`;
  await world.restart();
  await checkWorld(world, story, context);
  if (cutAt % 3 === 0) {
    await world.library.collect({ isForced: true });
    await take(world, story, 'later', [...chunks(10, 5), 99]);
    await checkWorld(world, story, `${context}, collected and used again`);
  }
  await world.end();
  return wasCut;
}

describe('a power cut', () => {
  for (const name of Object.keys(ACTS)) {
    test(`at any operation of ${name} leaves every acknowledged image whole`, async () => {
      let operation = 1;
      while (await play(name, operation, operation)) operation += 1;
      assert.ok(operation > 8, `${name} has ${operation - 1} operations`);
    });
  }
  test('at any operation of the making of a library leaves one that can be used', async () => {
    let operation = 1;
    for (let wasCut = true; wasCut; operation += 1) {
      const story: Story = { acknowledged: new Map(), destroyed: new Set(), open: new Map() };
      const world = new SimulatedLibrary(operation);
      world.machine.cutAt = operation;
      wasCut = await world.open().then(
        () => false,
        (thrown) => {
          assert.ok(thrown instanceof PowerCut || isFailure(thrown), String(thrown));
          return true;
        },
      );
      const context = `operation ${operation}: ${world.machine.history.at(-1)}`;
      await world.restart().catch((cause: unknown) => {
        throw new Error(context, { cause });
      });
      await take(world, story, 'first', FIRST);
      await checkWorld(world, story, context);
      await world.end();
    }
    assert.ok(operation > 8, `${operation - 1} operations`);
  });

  test('at a random operation leaves every acknowledged image whole, with many seeds', async () => {
    const names = Object.keys(ACTS);
    const seeds = Number(process.env['INGOT_FAULT_SEEDS'] ?? 20);
    for (let seed = 1; seed <= seeds; seed++) {
      const name = names[seed % names.length] as string;
      await play(name, 1 + ((seed * 7) % 40), seed * 1000);
    }
  });
});

describe('a failed sync', () => {
  test('is never tried again: nothing is acknowledged, and writing stops for good', async () => {
    for (let sync = 1; sync <= 8; sync++) {
      const story: Story = { acknowledged: new Map(), destroyed: new Set(), open: new Map() };
      const world = new SimulatedLibrary(sync);
      await world.open();
      await take(world, story, 'first', FIRST);
      world.disk.failingSync = sync;
      await assert.rejects(take(world, story, 'second', SECOND), (error) =>
        isFailure(error, 'library-unusable'),
      );
      await assert.rejects(take(world, story, 'third', THIRD), (error) =>
        isFailure(error, 'library-unusable'),
      );
      world.disk.failingSync = undefined;
      await world.restart();
      await checkWorld(world, story, `sync ${sync}`);
      await world.end();
    }
  });
});

describe('a full disk', () => {
  test('refuses an ingest at any byte, keeps what was there, and takes images again later', async () => {
    for (let room = 0; room < 24_000; room += 1500) {
      const story: Story = { acknowledged: new Map(), destroyed: new Set(), open: new Map() };
      const world = new SimulatedLibrary(room);
      await world.open();
      await take(world, story, 'first', FIRST);
      const usedBytes = world.disk.usedBytes();
      world.disk.capacityBytes = usedBytes + room;
      await assert.rejects(take(world, story, 'second', SECOND), (error) =>
        isFailure(error, 'library-full'),
      );
      story.open.clear();
      await checkWorld(world, story, `room for ${room} bytes`);
      world.disk.capacityBytes = Number.POSITIVE_INFINITY;
      await world.library.collect({ isForced: true });
      assert.ok(world.disk.usedBytes() <= usedBytes + 1000, `${room}: space is given back`);
      await take(world, story, 'second', SECOND);
      await checkWorld(world, story, `after room for ${room} bytes`);
      await world.end();
    }
  });
});
