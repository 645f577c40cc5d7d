import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { digestOf, type Id, IngotError, isFailure } from '../../src/base/index.ts';
import type { OpenUrl } from '../../src/keep/imports/url-source.ts';
import type {
  ImageStatus,
  Imports,
  JobKind,
  OpenReceived,
  UploadPart,
} from '../../src/keep/index.ts';
import { descriptionOf, ingest, streamOf, summaryOf } from '../contracts/ingest-session.ts';
import { ACCOUNT } from '../contracts/test-library.ts';
import { IMPORT_LIMITS, IMPORT_REQUEST, WHOLE_UPLOAD } from '../fakes/import-request.ts';
import { MemorySnapshotSource } from '../fakes/memory-snapshot-source.ts';
import { PowerCut, SeededNumbers } from './simulated-disk.ts';
import { plainSegment, readPlain, SimulatedLibrary } from './simulated-library.ts';
import { SimulatedSpool } from './simulated-spool.ts';

const disk = Buffer.concat(Array.from({ length: 3 }, (_, i) => plainSegment(i, 4096).coded));
/** The process is killed before an operation with one of them, behind it with the other. */
const SEEDS = [1, 2, 3, 4, 5, 6, 7, 8].filter(isFirstOfItsKind);
const WHOLE: UploadPart = { ...WHOLE_UPLOAD, totalBytes: disk.length };
const STATUSES: readonly ImageStatus[] = ['creating', 'available', 'deprecated', 'failed'];
/** Turns of the event loop after which work that nobody hinders must be over. */
const MOST_TURNS = 20_000;

async function* body(): AsyncGenerator<Buffer> {
  yield disk.subarray(0, 5000);
  yield disk.subarray(5000);
}

const openMemory: OpenReceived = async () =>
  new MemorySnapshotSource(
    {
      bytes: disk,
      extents: [{ offsetBytes: 0, lengthBytes: disk.length }],
      fileExtents: undefined,
    },
    { mayChange: false },
  );

const openUrl: OpenUrl = async (_url, { offsetBytes }) => ({
  offsetBytes,
  validator: '"one"',
  totalBytes: disk.length,
  body: (async function* () {
    yield disk.subarray(offsetBytes);
  })(),
});

function isFirstOfItsKind(seed: number): boolean {
  const isBefore = (one: number): boolean => new SeededNumbers(one).next() < 0.5;
  for (let one = 1; one < seed; one++) if (isBefore(one) === isBefore(seed)) return false;
  return true;
}

/** A library with jobs and imports in a process that may be killed. */
class World {
  readonly simulated: SimulatedLibrary;
  readonly spool: SimulatedSpool;
  openSource = openMemory;
  #imports: Imports | undefined;

  constructor(seed: number, digestBytes = 0) {
    this.simulated = new SimulatedLibrary(seed, { digestBytes, quietMs: 0 });
    this.spool = new SimulatedSpool(this.simulated.machine);
  }

  get imports(): Imports {
    assert.ok(this.#imports !== undefined);
    return this.#imports;
  }

  get account() {
    return this.simulated.account;
  }

  get jobs() {
    return this.simulated.library.jobs;
  }

  async open(): Promise<void> {
    await this.simulated.open();
    await this.#openImports();
  }

  /** The process is gone; the next one begins. */
  async restart(): Promise<void> {
    this.openSource = openMemory;
    await this.#imports?.[Symbol.asyncDispose]().catch(() => undefined);
    await this.simulated.restartKilled();
    await this.#openImports();
  }

  async end(): Promise<void> {
    await this.#imports?.[Symbol.asyncDispose]();
    await this.simulated.end();
  }

  /** Waits until something is so: no time passes here, only turns of the event loop. */
  async until(what: string, isSo: () => Promise<boolean>): Promise<void> {
    for (let turn = 0; !(await isSo()); turn++) {
      assert.ok(turn < MOST_TURNS, `${what} does not come`);
      // Work that waits for a rest begins in it.
      this.jobs.lookAgain();
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  async noJobIsOpen(): Promise<void> {
    const isSo = async () => (await this.jobs.list({ isOpen: true, limit: 10 })).length === 0;
    await this.until('the end of all jobs', isSo);
  }

  async nothingIsSpooled(): Promise<boolean> {
    // A look at the jobs fails once the process is killed.
    await this.jobs.list({ isOpen: true, limit: 1 });
    return this.spool.imageIds.length === 0;
  }

  async statusOf(imageId: Id<'img'>): Promise<string> {
    const { status, failure } = await this.account.show(imageId);
    return failure === undefined ? status : `${status}: ${failure}`;
  }

  async #openImports(): Promise<void> {
    this.#imports = await this.simulated.library.openImports({
      spool: this.spool,
      openSource: (file) => this.openSource(file),
      openUrl,
      openSpool: () => Promise.reject(new Error('nothing is put by')),
      openHandover: () => {
        throw new Error('nothing is handed over');
      },
      limits: IMPORT_LIMITS,
    });
  }
}

/** What an act was told before the process was killed. */
interface Told {
  imageId?: Id<'img'>;
  jobId?: Id<'job'>;
  isCancelled?: boolean;
  isDestroyed?: boolean;
}

interface Act {
  /** Size of the largest disk that is digested when it is there; 0 for none. */
  readonly digestBytes?: number;
  readonly before?: (world: World) => Promise<void>;
  readonly act: (world: World, told: Told) => Promise<void>;
  /** What must be so afterwards, beside what always must. */
  readonly check?: (world: World, told: Told) => Promise<void>;
  /** Words of the only failure that a job may end with. */
  readonly failure?: RegExp;
  /** Whether a job may be cancelled in the end. */
  readonly isGivenUp?: boolean;
}

/** Makes the source of an import wait until it is given up. @returns waits until one waits */
function holdUp(world: World): () => Promise<void> {
  let isInside = false;
  world.openSource = ({ signal }) => {
    isInside = true;
    return new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
  };
  // A look at the jobs fails once the process is killed.
  const isSo = async () =>
    (await world.jobs.list({ isOpen: true, limit: 1 })).length > 0 && isInside;
  return () => world.until('the source', isSo);
}

async function upload(world: World, told: Told): Promise<void> {
  const { image, job } = await world.imports.upload(ACCOUNT, IMPORT_REQUEST, body(), WHOLE);
  told.imageId = image.id;
  if (job !== undefined) told.jobId = job.id;
}

async function checkMade(world: World, { imageId }: Told): Promise<void> {
  if (imageId === undefined) return;
  assert.equal(await world.statusOf(imageId), 'available');
  assert.ok((await readPlain(world.account, imageId)).equals(disk));
}

const images: Act['before'] = async (world) => {
  const chunks = Array.from({ length: 12 }, (_, i) => plainSegment(i, 1500));
  const { id } = await ingest(world.account, 'one', chunks);
  await ingest(world.account, 'two', [...chunks.slice(3), plainSegment(99, 3000)]);
  await world.account.destroy(id);
  await world.noJobIsOpen();
};

const queued = (kind: JobKind, subject = ''): Act => ({
  before: images,
  act: async (world, told) => {
    told.jobId = (await world.jobs.add(kind, subject)).id;
    await world.noJobIsOpen();
  },
});

const ACTS: Readonly<Record<string, Act>> = {
  'an import of an upload': {
    act: async (world, told) => {
      await upload(world, told);
      await world.noJobIsOpen();
    },
    check: checkMade,
  },
  'an import from a URL': {
    act: async (world, told) => {
      const request = { ...IMPORT_REQUEST, url: 'https://files.test/disk.raw' };
      const { image, job } = await world.imports.begin(ACCOUNT, request);
      told.imageId = image.id;
      if (job !== undefined) told.jobId = job.id;
      await world.noJobIsOpen();
    },
    check: checkMade,
  },
  'an import that fails': {
    failure: /it is no disk|its making broke off/,
    act: async (world, told) => {
      world.openSource = () =>
        Promise.reject(new IngotError('source-unsupported', 'it is no disk'));
      await upload(world, told);
      await world.noJobIsOpen();
      await world.until('the end of its order', () => world.nothingIsSpooled());
      told.isCancelled = true;
    },
    check: async (world, { imageId, isCancelled }) => {
      if (imageId === undefined || isCancelled !== true) return;
      assert.equal(await world.statusOf(imageId), 'failed: it is no disk');
    },
  },
  'an import whose job is cancelled': {
    isGivenUp: true,
    act: async (world, told) => {
      const inside = holdUp(world);
      await upload(world, told);
      await inside();
      await world.jobs.cancel(told.jobId as Id<'job'>);
      told.isCancelled = true;
      await world.until('the end of its order', () => world.nothingIsSpooled());
    },
    check: async (world, { imageId, isCancelled }) => {
      if (imageId === undefined || isCancelled !== true) return;
      assert.match(await world.statusOf(imageId), /^failed: job-\w+ was cancelled$/);
    },
  },
  'an import whose image is destroyed': {
    isGivenUp: true,
    act: async (world, told) => {
      const inside = holdUp(world);
      await upload(world, told);
      await inside();
      await world.account.destroy(told.imageId as Id<'img'>);
      told.isDestroyed = true;
    },
    check: async (world, { imageId, isDestroyed }) => {
      if (imageId === undefined || isDestroyed !== true) return;
      await assert.rejects(world.account.show(imageId), (thrown) =>
        isFailure(thrown, 'image-not-found'),
      );
    },
  },
  'a verify': queued('verify'),
  'a collection': queued('collect', 'forced'),
  'a backup': {
    ...queued('backup'),
    check: async (world, { jobId }) => {
      if (jobId === undefined) return;
      const names = await world.simulated.disk.list('backups');
      assert.deepEqual(
        names.filter((name) => !/^state-\d{15}\.db$/.test(name)),
        [],
      );
      assert.ok(names.length > 0);
    },
  },
  'the digest of a disk': {
    digestBytes: 1_000_000,
    act: async (world, told) => {
      const chunks = Array.from({ length: 5 }, (_, i) => plainSegment(i, 3000));
      told.imageId = (await ingest(world.account, 'one', chunks)).id;
      const { imageId } = told;
      const isThere = async () => (await world.account.show(imageId)).plainDigest !== undefined;
      await world.until('the digest', isThere);
      await world.noJobIsOpen();
    },
    check: async (world, { imageId }) => {
      if (imageId === undefined) return;
      const { plainDigest } = await world.account.show(imageId);
      assert.equal(plainDigest, digestOf(await readPlain(world.account, imageId)));
    },
  },
  'the digest of a disk that is not as its capture claimed': {
    digestBytes: 1_000_000,
    failure: /"verify-failed".*its capture said/,
    act: async (world, told) => {
      const session = await world.account.begin(descriptionOf('one'));
      const summary = summaryOf(70_000, { plainDigest: digestOf(disk) });
      const hole = streamOf([{ kind: 'hole', lengthBytes: 70_000 }]);
      told.imageId = (await session.commit(hole, summary)).id;
      await world.noJobIsOpen();
    },
    check: async (world, { imageId }) => {
      if (imageId === undefined) return;
      assert.match(await world.statusOf(imageId), /^failed: .* claimed$/);
      const jobs = await world.jobs.list({ isOpen: false, limit: 100 });
      assert.ok(jobs.some(({ kind, state }) => kind === 'plain-digest' && state === 'failed'));
    },
  },
};

/** Jobs that were told of are done; none has failed; no image waits for nobody. */
async function checkWorld(
  world: World,
  { failure, isGivenUp, check }: Act,
  told: Told,
): Promise<void> {
  await world.noJobIsOpen();
  const jobs = await world.jobs.list({ isOpen: undefined, limit: 100 });
  for (const { state, outcome, kind } of jobs) {
    if (state === 'failed') assert.match(outcome, failure ?? /^nothing fails$/, kind);
  }
  if (told.jobId !== undefined) {
    const { state } = await world.jobs.show(told.jobId);
    const ends = ['done', ...(failure ? ['failed'] : []), ...(isGivenUp ? ['cancelled'] : [])];
    assert.ok(ends.includes(state), `it is ${state}`);
  }
  for (const { id, status } of await world.account.list({ statuses: STATUSES })) {
    if (status !== 'creating') continue;
    // Only what is still being sent, and nobody was told that it came.
    assert.equal((await world.imports.state(ACCOUNT, id)).isReceiving, true, `${id} waits`);
    assert.notEqual(id, told.imageId);
  }
  const isLeft = await Promise.all(
    world.spool.imageIds.map(async (id) => (await world.statusOf(id)) !== 'creating'),
  );
  assert.ok(!isLeft.includes(true), 'an upload is left over');
  assert.equal((await world.simulated.library.verify()).isClean, true);
  await check?.(world, told);
}

/** @returns false when the act ended before the process was killed */
async function play(act: Act, cutAt: number, seed: number): Promise<boolean> {
  const world = new World(seed, act.digestBytes);
  await world.open();
  await act.before?.(world);
  const { machine } = world.simulated;
  machine.cutAt = machine.operations + cutAt;
  const told: Told = {};
  let wasCut = false;
  try {
    await act.act(world, told);
  } catch (error) {
    if (!(error instanceof PowerCut) && !isFailure(error)) throw error;
    wasCut = true;
  }
  const last = machine.history.at(-1);
  await world.restart();
  try {
    await checkWorld(world, act, told);
  } catch (cause) {
    throw new Error(`operation ${cutAt}, seed ${seed}, behind ${last}`, { cause });
  }
  await world.end();
  return wasCut;
}

describe('a daemon that is killed', () => {
  for (const [name, act] of Object.entries(ACTS)) {
    test(`at any operation of ${name} leaves a job that the next one ends`, async () => {
      for (const seed of SEEDS) {
        let operation = 1;
        while (await play(act, operation, seed)) operation += 1;
        assert.ok(operation > 4, `${name} has ${operation - 1} operations`);
      }
    });
  }
});
