import assert from 'node:assert/strict';
import { type Id, isFailure } from '../../src/base/index.ts';
import type { Segment } from '../../src/bytes/index.ts';
import { descriptionOf, entriesOf, streamOf, summaryOf } from '../contracts/ingest-session.ts';
import { plainSegment, readPlain, recoded, SimulatedLibrary } from './simulated-library.ts';

/** A library that several acts work with at once, and what must be left in the end. */
export class Stage {
  readonly world = new SimulatedLibrary(1);
  /** Names of the images that must be there in the end. */
  readonly expected = new Set<string>();
  /** By name: what a reader must find. */
  readonly contents = new Map<string, readonly Segment[]>();
  readonly ids = new Map<string, Id<'img'>>();
  readonly point: (operation: string) => Promise<void>;

  /** @param point waited for before every operation of an act */
  constructor(point: (operation: string) => Promise<void>) {
    this.point = point;
  }

  idOf(name: string): Id<'img'> {
    const id = this.ids.get(name);
    assert.ok(id !== undefined, name);
    return id;
  }

  /** @param atEnd done before the image is let go of */
  async mustBeWhole(name: string, id: string, atEnd?: () => Promise<void>): Promise<void> {
    const wanted = bytesOf(this.contents.get(name) ?? []);
    const bytes = await readPlain(this.world.account, id, atEnd);
    assert.ok(bytes.equals(wanted), `${name} has other bytes`);
  }
}

type Act = (stage: Stage) => Promise<void>;

/** Acts that are done at once, behind what was done before. */
export interface Scenario {
  readonly before: Act;
  readonly acts: readonly Act[];
  /** All schedules with at most so many are played. */
  readonly preemptions: number;
}

const [A, B, C, D, E, F] = Array.from({ length: 6 }, (_, seed) =>
  plainSegment(seed, 1500 + seed),
) as [Segment, Segment, Segment, Segment, Segment, Segment];
const OLD = [A, B];
const KEPT = [B, C, F];

/** A client's ingest: it delivers what it is told to. */
function take(name: string, parts: readonly Segment[]): Act {
  return async ({ world, contents, ids, expected }) => {
    contents.set(name, parts);
    const session = await world.account.begin(descriptionOf(name));
    const known = await session.have(parts.map(({ digest }) => digest));
    await session.put(parts.filter((_, i) => known[i] !== true));
    const entries = entriesOf(parts);
    const sizeBytes = entries.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
    ids.set(name, (await session.commit(streamOf(entries), summaryOf(sizeBytes))).id);
    expected.add(name);
  };
}

function destroy(name: string): Act {
  return async (stage) => {
    stage.expected.delete(name);
    await stage.world.account.destroy(stage.idOf(name));
  };
}

const collect: Act = async ({ world }) => {
  await world.library.collect({ isForced: true });
};

/** Whoever has an image open reads it whole, whatever becomes of it meanwhile. */
function download(name: string): Act {
  return async (stage) => {
    try {
      await stage.mustBeWhole(name, stage.idOf(name), () => stage.point('lets go'));
    } catch (error) {
      if (!isFailure(error, 'image-not-found')) throw error;
      assert.ok(!stage.expected.has(name), `${name} is not found`);
    }
  };
}

/** What can be seen is whole. */
const readAll: Act = async (stage) => {
  for (const { id, name } of await stage.world.account.list()) await stage.mustBeWhole(name, id);
};

/** A download that meets a damaged chunk, or one that is healed while it reads. */
function downloadOfDamaged(name: string): Act {
  return async (stage) => {
    try {
      await download(name)(stage);
    } catch (error) {
      if (!isFailure(error, 'chunk-corrupt') && !isFailure(error, 'content-changed')) throw error;
    }
  };
}

const verify: Act = async ({ world }) => {
  assert.deepEqual(found(await world.library.verify()), CLEAN);
};

/** The part of a verify that reads manifests, as one does that goes on behind the packs. */
const verifyManifests: Act = async ({ world }) => {
  const nothing = { checkedChunks: 0, checkedBytes: 0, ...CLEAN };
  const checkpoint = JSON.stringify({ phase: 'pages', after: '', found: nothing });
  assert.deepEqual(found(await world.library.verify({ checkpoint })), CLEAN);
};

/** Names what is damaged and nothing else. */
const verifyDamaged: Act = async (stage) => {
  const { corruptChunks, damagedImages, ...rest } = await stage.world.library.verify();
  assert.deepEqual(rest.corruptPacks, []);
  assert.deepEqual(rest.damage, []);
  for (const digest of corruptChunks) assert.equal(digest, C.digest);
  for (const id of damagedImages) assert.equal(id, stage.idOf('kept'));
};

function verifyOne(name: string): Act {
  return async (stage) => {
    const report = await stage.world.library.verify({ imageId: stage.idOf(name) });
    assert.deepEqual(found(report), CLEAN);
  };
}

/** An owner changes what is said of an image. */
function deprecate(name: string): Act {
  return async (stage) => {
    await stage.world.account.update(stage.idOf(name), { isDeprecated: true });
  };
}

/** A client that gives up. */
const giveUp: Act = async ({ world }) => {
  const session = await world.account.begin(descriptionOf('given up'));
  await session.put([A, D, E]);
  await session.abort();
};

function inTurn(...acts: readonly Act[]): Act {
  return async (stage) => {
    for (const act of acts) await act(stage);
  };
}

async function placeOf({ world }: Stage, { digest }: Segment) {
  const [place] = await world.catalogue.locate([digest]);
  assert.ok(place !== undefined);
  return place;
}

function bytesOf(parts: readonly Segment[]): Buffer {
  return Buffer.concat(parts.map(({ coded, plainBytes }) => coded.subarray(0, plainBytes)));
}

const CLEAN = { isClean: true, corruptChunks: [], corruptPacks: [], damage: [], damagedImages: [] };

function found(report: object): object {
  const {
    checkedBytes: _bytes,
    checkedChunks: _chunks,
    ...rest
  } = report as Record<string, object>;
  return rest;
}

/** `old` shares a chunk with `kept`; its pack is sparse without it. Nobody needs the pack of D. */
const usual = inTurn(take('old', OLD), take('kept', KEPT), take('gone', [D]), destroy('gone'));
const withOldGone = inTurn(usual, destroy('old'));

/** A chunk of `kept` is quarantined. */
const doubted: Act = async (stage) => {
  await withOldGone(stage);
  const { catalogue } = stage.world;
  await catalogue.quarantine([await placeOf(stage, C)]);
};

/** The same, and with reason. */
const damaged: Act = async (stage) => {
  await doubted(stage);
  const { packId, offsetBytes } = await placeOf(stage, C);
  stage.world.disk.flipBit(`packs/${packId}.pack`, offsetBytes);
};

const destroyAndCollect = inTurn(destroy('old'), collect);
const collectTwice = inTurn(collect, collect);
const heal = take('healed', [A, recoded(C)]);

/** What is played, by what the first act is about. */
export const SCENARIOS: Record<string, Scenario> = {
  'an ingest of chunks that go': {
    before: usual,
    acts: [take('new', [A, D, E]), destroyAndCollect],
    preemptions: 2,
  },
  'an ingest of the manifest that goes': {
    before: usual,
    acts: [take('new', OLD), destroyAndCollect],
    preemptions: 1,
  },
  'an ingest that is given up': {
    before: usual,
    acts: [giveUp, take('new', [A, D]), collectTwice],
    preemptions: 0,
  },
  'ingests of the same chunks': {
    before: withOldGone,
    acts: [take('one', [A, D, E]), take('other', [E, D]), collect],
    preemptions: 0,
  },
  'a download of the image that goes': {
    before: usual,
    acts: [download('old'), destroyAndCollect],
    preemptions: 2,
  },
  'a download of chunks that are moved': {
    before: withOldGone,
    acts: [download('kept'), collectTwice],
    preemptions: 2,
  },
  'a reader of all images beside an ingest': {
    before: usual,
    acts: [readAll, take('new', [A, D, E])],
    preemptions: 1,
  },
  'downloads, a deletion and a collection': {
    before: usual,
    acts: [download('old'), download('old'), destroy('old'), collect],
    preemptions: 0,
  },
  'a verify of what goes': {
    before: usual,
    acts: [verify, destroyAndCollect],
    preemptions: 1,
  },
  'a verify of the image that goes': {
    before: usual,
    acts: [verifyOne('old'), destroyAndCollect],
    preemptions: 2,
  },
  'a verify of a manifest that goes and comes back': {
    before: usual,
    acts: [verifyManifests, inTurn(destroyAndCollect, take('new', OLD))],
    preemptions: 2,
  },
  'a deletion, an ingest and a collection': {
    before: usual,
    acts: [destroy('old'), take('new', [A, D, E]), collect],
    preemptions: 0,
  },
  'changes of an image beside a collection': {
    before: usual,
    acts: [deprecate('kept'), destroy('old'), collect],
    preemptions: 0,
  },
  'a verify of a chunk that only looked bad beside a collection': {
    before: doubted,
    acts: [verifyDamaged, collectTwice],
    preemptions: 1,
  },
  'an ingest that heals beside a collection': {
    before: damaged,
    acts: [heal, collectTwice],
    preemptions: 1,
  },
  'an ingest that heals beside a verify': {
    before: damaged,
    acts: [heal, verifyDamaged],
    preemptions: 1,
  },
  'an ingest that heals beside a download': {
    before: damaged,
    acts: [heal, downloadOfDamaged('kept')],
    preemptions: 2,
  },
  'an ingest that heals beside a download and a collection': {
    before: damaged,
    acts: [heal, downloadOfDamaged('kept'), collectTwice],
    preemptions: 0,
  },
};

/** Looks at all that must hold once every act is over. */
export async function check(stage: Stage): Promise<void> {
  const { world, expected, contents } = stage;
  const { account, library, disk } = world;
  const look = async (when: string): Promise<void> => {
    const listed = await account.list();
    assert.deepEqual(listed.map(({ name }) => name).sort(), [...expected].sort(), when);
    assert.deepEqual(found(await library.verify()), CLEAN, when);
    const roots = (await disk.list('manifests/images')).filter((name) => !name.endsWith('.json'));
    assert.deepEqual(roots, listed.map(({ id }) => `${id}.manifest`).sort(), when);
    assert.deepEqual(await disk.list('incoming'), [], when);
  };
  await look('at the end');
  await library.collect({ isForced: true });
  await library.collect({ isForced: true });
  await look('after two collections');
  for (const name of expected) await stage.mustBeWhole(name, stage.idOf(name));
  const wanted = [...expected].flatMap((name) => contents.get(name) ?? []);
  await checkSpace(world, new Set(wanted.map(({ digest }) => digest)).size);
}

/** Nothing takes space that nobody needs, but what is too little to be worth a new pack. */
async function checkSpace(world: SimulatedLibrary, wantedChunks: number): Promise<void> {
  const { disk } = world;
  const usage = await world.catalogue.packUsage();
  assert.deepEqual(await disk.list('packs'), usage.map(({ packId }) => `${packId}.pack`).sort());
  for (const { liveBytes, sizeBytes } of usage) {
    assert.ok(liveBytes >= sizeBytes * 0.6, `${liveBytes} of ${sizeBytes} bytes are wanted`);
  }
  const liveChunks = usage.reduce((sum, pack) => sum + pack.liveChunks, 0);
  assert.equal(liveChunks, wantedChunks, 'chunks that are kept');
  assert.equal(disk.heldBytes(), 0, 'bytes of removed files that are held open');
}
