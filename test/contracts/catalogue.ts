import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Digest, digestOf, isFailure } from '../../src/base/index.ts';
import type { PackEntry } from '../../src/bytes/index.ts';
import type { ImportOrder } from '../../src/keep/imports/import-order.ts';
import type { Job } from '../../src/keep/index.ts';
import type { Catalogue, ImageRow, PageRow } from '../../src/keep/library/catalogue.ts';

const PACK = { packId: '0'.repeat(32), sizeBytes: 1000 };
const OTHER_PACK = { packId: '1'.repeat(32), sizeBytes: 1000 };

function digest(n: number): Digest {
  return digestOf(Buffer.from([n]));
}

function entry(n: number, codedBytes = 10): PackEntry {
  return {
    digest: digest(n),
    offsetBytes: 32 + n * 100,
    codedBytes,
    plainBytes: 100,
    plainCrc32: 0xffff_fff0 + n,
    codedCrc32: n,
  };
}

const JOB: Job = {
  id: 'job-00001',
  kind: 'verify',
  subject: '',
  accountId: undefined,
  state: 'queued',
  owner: '',
  leaseUntil: 0,
  attempts: 0,
  doneBytes: 0,
  totalBytes: undefined,
  stage: '',
  checkpoint: '',
  outcome: '',
  createdAt: 1,
  finishedAt: undefined,
};

function imageRow(changes: Partial<ImageRow> = {}): ImageRow {
  return {
    id: 'img-00001',
    ownerId: 'acc-00001',
    status: 'available',
    isPublic: false,
    isOfficial: false,
    isLocked: false,
    name: 'one',
    description: '',
    kind: 'upload',
    arch: 'x86_64',
    ancestorId: undefined,
    compatibilityMode: true,
    createdAt: 5,
    virtualSizeBytes: 100,
    gzipSizeBytes: 30,
    addedBytes: 10,
    plainDigest: undefined,
    claimedDigest: digest(200),
    chunkRule: 'test-1',
    pageCount: 1,
    capture: {
      consistency: 'frozen',
      freezeMs: 1.5,
      filesystem: undefined,
      source: '/',
      freeSpace: 'zero',
    },
    ...changes,
  };
}

function page(n: number): PageRow {
  const layout = { codedBytes: 10, plainCrc32: 0xffff_ffff, codedTag: digest(100 + n) };
  return { digest: digest(150 + n), entries: 1, plainBytes: 100, layout };
}

/** Makes an image of one page with these chunks, as a session does. */
async function makeImage(
  catalogue: Catalogue,
  row: ImageRow,
  pageNumber: number,
  chunks: readonly number[],
): Promise<void> {
  await catalogue.beginSession(row.id);
  const digests = chunks.map(digest);
  const stored = await catalogue.deliver(row.id, digests);
  const fresh = chunks.filter((_, i) => !stored[i]).map((n) => entry(n));
  await catalogue.addPack(row.id, { packId: packIdOf(pageNumber), sizeBytes: 1000 }, fresh);
  await catalogue.stagePages(row.id, 0, [{ row: page(pageNumber), digests }]);
  assert.equal(await catalogue.reserveImage(row), true);
  await catalogue.commitImage(row.id, row);
  await catalogue.endSession(row.id);
}

function packIdOf(n: number): string {
  return n.toString(16).padStart(32, '0');
}

const ALL = { accountId: undefined, statuses: ['available'] as const, afterId: '', limit: 10 };

/** The suite of the port {@link Catalogue}. */
export function catalogueContract(adapter: string, open: () => Promise<Catalogue>): void {
  describe(`the catalogue in ${adapter}`, () => {
    test('an image comes back as it was committed', async () => {
      await using catalogue = await open();
      await makeImage(catalogue, imageRow(), 1, [1, 2]);
      assert.deepEqual(await catalogue.image('img-00001'), imageRow());
      assert.deepEqual(await catalogue.images(ALL), [imageRow()]);
      assert.deepEqual(await catalogue.imagePages('img-00001'), [page(1)]);
      const places = await catalogue.locate([digest(2), digest(9)]);
      assert.deepEqual(places, [{ ...entry(2), packId: packIdOf(1), state: 'live' }, undefined]);
    });

    test('an id is given out once, whatever became of its image', async () => {
      await using catalogue = await open();
      assert.equal(await catalogue.reserveImage(imageRow()), true);
      assert.equal(await catalogue.reserveImage(imageRow()), false);
      await catalogue.updateImage('img-00001', { status: 'deleted' });
      assert.equal(await catalogue.reserveImage(imageRow()), false);
      assert.deepEqual(await catalogue.images(ALL), []);
    });

    test('a session is given chunks of images that its account sees, and no others', async () => {
      await using catalogue = await open();
      await makeImage(catalogue, imageRow(), 1, [1]);
      await catalogue.beginSession('s');
      assert.deepEqual(await catalogue.grant('s', 'acc-00002', [digest(1)]), [false]);
      await assert.rejects(catalogue.placesFor('s', [digest(1)]), (error) =>
        isFailure(error, 'chunk-missing'),
      );
      await catalogue.updateImage('img-00001', { isPublic: true });
      assert.deepEqual(await catalogue.grant('s', 'acc-00002', [digest(1)]), [true]);
      assert.equal((await catalogue.placesFor('s', [digest(1)])).length, 1);
      await catalogue.updateImage('img-00001', { isPublic: false, status: 'deleting' });
      await catalogue.beginSession('t');
      assert.deepEqual(await catalogue.grant('t', 'acc-00001', [digest(1)]), [false]);
    });

    test('a session that is over can do nothing more', async () => {
      await using catalogue = await open();
      await catalogue.beginSession('s');
      await catalogue.endSession('s');
      await catalogue.endSession('s');
      for (const call of [
        catalogue.grant('s', 'acc-00001', []),
        catalogue.deliver('s', []),
        catalogue.addPack('s', PACK, []),
        catalogue.commitImage('s', imageRow()),
      ]) {
        await assert.rejects(call, (error) => isFailure(error, 'ingest-expired'));
      }
      assert.deepEqual(await catalogue.packs('', 10), []);
    });

    test('what nobody refers to is condemned, and a condemned chunk is granted to nobody', async () => {
      await using catalogue = await open();
      await makeImage(catalogue, imageRow(), 1, [1, 2]);
      await makeImage(catalogue, imageRow({ id: 'img-00002' }), 2, [2, 3]);
      await catalogue.updateImage('img-00001', { status: 'deleted' });
      await catalogue.releasePages('img-00001');
      assert.deepEqual(await catalogue.unknownPages([page(1).digest, page(9).digest]), [
        page(9).digest,
      ]);
      assert.equal(await catalogue.sweepPages(10), 1);
      assert.equal(await catalogue.sweepPages(10), 0);
      assert.deepEqual(await catalogue.unknownPages([page(1).digest]), [page(1).digest]);
      assert.deepEqual(await catalogue.unreferenced(), { unreferencedBytes: 10, liveBytes: 30 });
      assert.equal(await catalogue.condemn(), 1);
      await catalogue.beginSession('s');
      assert.deepEqual(await catalogue.deliver('s', [digest(1), digest(2)]), [false, true]);
      // A new copy makes it live again.
      await catalogue.addPack('s', OTHER_PACK, [entry(1, 11)]);
      const [place] = await catalogue.locate([digest(1)]);
      assert.deepEqual(place, { ...entry(1, 11), packId: OTHER_PACK.packId, state: 'live' });
    });

    test('what a running session holds is not condemned', async () => {
      await using catalogue = await open();
      await makeImage(catalogue, imageRow(), 1, [1]);
      await catalogue.beginSession('s');
      assert.deepEqual(await catalogue.grant('s', 'acc-00001', [digest(1)]), [true]);
      await catalogue.stagePages('s', 0, [{ row: page(2), digests: [digest(1)] }]);
      await catalogue.releasePages('img-00001');
      assert.equal(await catalogue.sweepPages(10), 1);
      assert.equal(await catalogue.condemn(), 0);
      await catalogue.endSession('s');
      assert.equal(await catalogue.sweepPages(10), 1);
      assert.equal(await catalogue.condemn(), 1);
      assert.equal(await catalogue.spare([digest(1), digest(7)]), 1);
      assert.equal(await catalogue.condemn(), 1);
    });

    test('a pack is retired once nothing in it is wanted', async () => {
      await using catalogue = await open();
      await makeImage(catalogue, imageRow(), 1, [1, 2]);
      await makeImage(catalogue, imageRow({ id: 'img-00002' }), 2, [2]);
      await catalogue.releasePages('img-00001');
      await catalogue.sweepPages(10);
      await catalogue.condemn();
      assert.equal(await catalogue.retirePack(packIdOf(1)), false);
      assert.deepEqual(await catalogue.locate([digest(1)]), [undefined]);
      await catalogue.movePack([packIdOf(1)], OTHER_PACK, [entry(2)]);
      assert.equal(await catalogue.retirePack(packIdOf(1)), true);
      assert.equal((await catalogue.locate([digest(2)]))[0]?.packId, OTHER_PACK.packId);
    });

    test('a quarantined chunk names its images, is granted to nobody, and is healed by a new copy', async () => {
      await using catalogue = await open();
      await makeImage(catalogue, imageRow(), 1, [1]);
      await catalogue.quarantine([{ digest: digest(1), packId: OTHER_PACK.packId }]);
      assert.equal((await catalogue.locate([digest(1)]))[0]?.state, 'live');
      const copy = { digest: digest(1), packId: packIdOf(1) };
      await catalogue.quarantine([copy]);
      await catalogue.endQuarantine([copy]);
      assert.equal((await catalogue.locate([digest(1)]))[0]?.state, 'live');
      await catalogue.quarantine([copy]);
      assert.deepEqual(await catalogue.imagesWith([digest(1)], 5), ['img-00001']);
      assert.equal((await catalogue.counts()).quarantinedChunks, 1);
      await catalogue.beginSession('s');
      assert.deepEqual(await catalogue.deliver('s', [digest(1)]), [false]);
      await catalogue.addPack('s', OTHER_PACK, [entry(1, 12)]);
      assert.equal((await catalogue.locate([digest(1)]))[0]?.state, 'live');
      assert.equal((await catalogue.imagePages('img-00001'))[0]?.layout, undefined);
    });

    test('clients and accounts come back, and a revoked client stays revoked', async () => {
      await using catalogue = await open();
      const account = { id: 'acc-00001', name: 'a', createdAt: 1 } as const;
      assert.equal(await catalogue.addAccount(account), true);
      assert.equal(await catalogue.addAccount(account), false);
      const client = {
        id: 'cli-00001',
        accountId: 'acc-00001',
        name: 'c',
        secretHash: 'h',
        createdAt: 2,
        isRevoked: false,
      } as const;
      assert.equal(await catalogue.addClient(client), true);
      await catalogue.updateClient('cli-00001', { isRevoked: true });
      assert.deepEqual(await catalogue.client('cli-00001'), { ...client, isRevoked: true });
      assert.deepEqual(await catalogue.accounts(), [account]);
    });

    test('an order to import has its image, and ends with it or without it', async () => {
      await using catalogue = await open();
      const order: ImportOrder = {
        imageId: 'img-00001',
        accountId: 'acc-00001',
        state: 'receiving',
        url: undefined,
        sha256: undefined,
        sizeBytes: undefined,
        format: undefined,
        freeSpace: 'keep',
        touchedAt: 1,
      };
      assert.equal(await catalogue.addImport(imageRow(), order), true);
      assert.equal(await catalogue.addImport(imageRow(), order), false);
      assert.equal((await catalogue.image('img-00001'))?.status, 'creating');
      const changed = { ...order, state: 'queued', sizeBytes: 7 } as const;
      const changes = { state: 'queued', sizeBytes: 7 } as const;
      assert.deepEqual(await catalogue.changeImport('img-00001', changes), changed);
      assert.deepEqual(await catalogue.importOrder('img-00001'), changed);
      assert.deepEqual(await catalogue.importOrders(), [changed]);
      await catalogue.endImport('img-00001', 'it broke');
      await catalogue.endImport('img-00001', 'it broke again');
      const failed = await catalogue.image('img-00001');
      assert.deepEqual([failed?.status, failed?.failure], ['failed', 'it broke']);
      assert.equal(await catalogue.changeImport('img-00001', changes), undefined);
      const made = { ...order, imageId: 'img-00002' } as const;
      await catalogue.addImport(imageRow({ id: 'img-00002' }), made);
      await catalogue.updateImage('img-00002', { status: 'available' });
      await catalogue.endImport('img-00002', '');
      const available = await catalogue.image('img-00002');
      assert.deepEqual([available?.status, available?.failure], ['available', undefined]);
      assert.deepEqual(await catalogue.importOrders(), []);
    });

    test('a job is claimed only by those who do its kind', async () => {
      await using catalogue = await open();
      const job = { ...JOB, kind: 'import', subject: 'img-00001' } as const;
      await catalogue.addJob(job);
      assert.equal(await catalogue.claimJob('a', 10, 20, ['verify', 'backup']), undefined);
      assert.equal(await catalogue.claimJob('a', 10, 20, []), undefined);
      assert.equal((await catalogue.claimJob('a', 10, 20, ['import']))?.id, job.id);
    });

    test('a job has one owner, and another one once the lease has ended', async () => {
      await using catalogue = await open();
      const job = JOB;
      assert.deepEqual(await catalogue.addJob(job), job);
      assert.equal((await catalogue.addJob({ ...job, id: 'job-00002' })).id, 'job-00001');
      assert.equal((await catalogue.claimJob('a', 10, 20, ['backup', 'verify']))?.attempts, 1);
      assert.equal(await catalogue.claimJob('b', 15, 25, ['backup', 'verify']), undefined);
      // Its owner works on it, whatever the clock says.
      assert.equal(await catalogue.claimJob('a', 20, 30, ['backup', 'verify']), undefined);
      assert.equal(await catalogue.touchJob('job-00001', 'a', { checkpoint: 'x' }), true);
      assert.equal((await catalogue.claimJob('b', 20, 30, ['backup', 'verify']))?.checkpoint, 'x');
      assert.equal(await catalogue.touchJob('job-00001', 'a', { checkpoint: 'y' }), false);
      await catalogue.releaseJob('job-00001', 'a');
      assert.equal((await catalogue.job('job-00001'))?.state, 'running');
      await catalogue.releaseJob('job-00001', 'b');
      const again = await catalogue.claimJob('b', 20, 30, ['verify']);
      assert.deepEqual([again?.attempts, again?.checkpoint], [2, 'x']);
      const end = { state: 'done', outcome: '', finishedAt: 21 } as const;
      assert.equal(await catalogue.finishJob('job-00001', 'a', end), false);
      assert.equal(await catalogue.finishJob('job-00001', 'b', end), true);
      assert.equal((await catalogue.jobs({ isOpen: false, limit: 5 }))[0]?.state, 'done');
      assert.equal((await catalogue.addJob({ ...job, id: 'job-00002' })).id, 'job-00002');
      await catalogue.addJob({ ...job, id: 'job-00003', subject: 'img-00001' });
      assert.equal((await catalogue.lastJob('verify', ''))?.id, 'job-00002');
      assert.equal(await catalogue.lastJob('backup', ''), undefined);
    });
  });
}
