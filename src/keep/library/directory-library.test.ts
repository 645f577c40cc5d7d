import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import {
  bytesOf,
  descriptionOf,
  entriesOf,
  ingest,
  ingestSessionContract,
  segmentOf,
  streamOf,
  summaryOf,
} from '../../../test/contracts/ingest-session.ts';
import {
  ACCOUNT,
  FOREIGN,
  openTestLibrary,
  partsIn,
  readDisk,
} from '../../../test/contracts/test-library.ts';
import { isFailure } from '../../base/index.ts';
import type { Segment } from '../../bytes/index.ts';
import { DirectoryLibrary } from './directory-library.ts';

ingestSessionContract('a directory', async () => {
  const test = await openTestLibrary();
  return {
    target: test.account,
    foreign: test.library.forAccount(FOREIGN),
    names: async () => (await test.account.list()).map((image) => image.name),
    [Symbol.asyncDispose]: () => test[Symbol.asyncDispose](),
  };
});

describe('a library in a directory', () => {
  test('gives back every byte, also after it was opened again', async () => {
    await using test = await openTestLibrary({ limits: { packBytes: 100_000 } });
    const plains = Array.from({ length: 200 }, (_, i) => bytesOf(i, 1000 + i * 7));
    const image = await ingest(test.account, 'one', [...plains.map(segmentOf), 123_456]);
    const disk = Buffer.concat([...plains, Buffer.alloc(123_456)]);
    assert.deepEqual(await readDisk(test.account, image.id), disk);
    const digest = createHash('sha256').update(disk).digest('hex');
    assert.equal(await test.account.plainDigest(image.id), digest);
    await test.reopen();
    assert.deepEqual(await readDisk(test.account, image.id), disk);
    assert.equal((await test.account.show(image.id)).plainDigest, digest);
  });

  test('keeps a disk that repeats itself for many pages', async () => {
    await using test = await openTestLibrary();
    const plain = bytesOf(1, 512);
    // Erased flash is like that: pages of the manifest are the same then, and written together.
    const parts = new Array<Segment>(4 * 2048).fill(segmentOf(plain));
    const image = await ingest(test.account, 'erased', parts);
    assert.deepEqual(await readDisk(test.account, image.id), Buffer.concat(parts.map(() => plain)));
  });

  test('an open image knows its sizes before its first byte', async () => {
    await using test = await openTestLibrary();
    const chunk = segmentOf(bytesOf(1, 5000));
    const { id } = await ingest(test.account, 'one', [chunk, 70_000, chunk]);
    await using image = await test.account.open(id);
    assert.equal(image.image.gzipSizeBytes, 20 + (image.pages[0]?.codedBytes ?? 0));
    assert.equal(image.pages[0]?.plainBytes, 80_000);
    assert.match(image.codedTag, /^[0-9a-f]{64}$/);
  });

  test('a second process is refused', async () => {
    await using test = await openTestLibrary();
    await assert.rejects(DirectoryLibrary.open(partsIn(test.folder)), (error) =>
      isFailure(error, 'library-busy'),
    );
  });

  test('foreign images are answered like absent ones; public ones are seen but not changed', async () => {
    await using test = await openTestLibrary();
    const foreign = test.library.forAccount(FOREIGN);
    const chunk = segmentOf(bytesOf(1, 5000));
    const { id } = await ingest(test.account, 'one', [chunk]);
    for (const call of [
      () => foreign.show(id),
      () => foreign.destroy(id),
      () => foreign.update(id, { name: 'x' }),
      () => foreign.open(id),
      () => foreign.plainDigest(id),
    ]) {
      await assert.rejects(call, (error) => isFailure(error, 'image-not-found'));
    }
    await test.account.update(id, { isPublic: true });
    assert.equal((await foreign.show(id)).name, 'one');
    assert.equal((await readDisk(foreign, id)).length, 5000);
    await assert.rejects(foreign.destroy(id), (error) => isFailure(error, 'not-allowed'));
    const session = await foreign.begin(descriptionOf('two'));
    assert.deepEqual(await session.have([chunk.digest]), [true]);
    await session.abort();
    await test.account.update(id, { isPublic: false });
    const later = await foreign.begin(descriptionOf('three'));
    assert.deepEqual(await later.have([chunk.digest]), [false]);
    await later.abort();
  });

  test('changes survive, also in the record', async () => {
    await using test = await openTestLibrary();
    const { id } = await ingest(test.account, 'one', [7]);
    await test.account.update(id, { name: 'zwei', isLocked: true, isDeprecated: true });
    await test.reopen();
    const image = await test.account.show(id);
    assert.deepEqual([image.name, image.isLocked, image.status], ['zwei', true, 'deprecated']);
    await assert.rejects(test.account.destroy(id), (error) => isFailure(error, 'image-in-use'));
  });

  test('a destroyed image is gone for good, and no other with it', async () => {
    await using test = await openTestLibrary();
    const plain = bytesOf(1, 5000);
    const first = await ingest(test.account, 'one', [segmentOf(plain)]);
    const session = await test.account.begin({ ...descriptionOf('two'), ancestorId: first.id });
    await session.put([segmentOf(plain)]);
    const second = await session.commit(streamOf(entriesOf([segmentOf(plain)])), summaryOf(5000));
    await test.account.destroy(first.id);
    await assert.rejects(test.account.show(first.id), (error) =>
      isFailure(error, 'image-not-found'),
    );
    await test.reopen();
    await assert.rejects(test.account.show(first.id), (error) =>
      isFailure(error, 'image-not-found'),
    );
    assert.equal((await test.account.show(second.id)).ancestorId, first.id);
    assert.deepEqual(await readDisk(test.account, second.id), plain);
  });

  test('an open download of a destroyed image ends undisturbed', async () => {
    await using test = await openTestLibrary();
    const chunk = segmentOf(bytesOf(1, 5000));
    const { id } = await ingest(test.account, 'one', [chunk]);
    await using image = await test.account.open(id);
    await test.account.destroy(id);
    const entries = await image.page(0);
    const [coded] = await image.readCoded(entries.filter((entry) => entry.kind === 'chunk'));
    assert.deepEqual(coded, chunk.coded);
  });

  test('chunks are read into the memory that is lent, also where they repeat', async () => {
    await using test = await openTestLibrary();
    const [a, b, c] = [1, 2, 3].map((seed) => segmentOf(bytesOf(seed, 5000 * seed))) as [
      Segment,
      Segment,
      Segment,
    ];
    const { id } = await ingest(test.account, 'one', [a, b, a, c, b]);
    await using image = await test.account.open(id);
    const chunks = (await image.page(0)).filter((entry) => entry.kind === 'chunk');
    const expected = [a, b, a, c, b].map(({ coded }) => Buffer.from(coded));
    const memory = Buffer.allocUnsafeSlow(100_000);
    const coded = await image.readCoded(chunks, undefined, memory);
    assert.deepEqual(coded, expected);
    assert.ok(coded.every((bytes) => bytes.buffer === memory.buffer));
    const tooSmall = Buffer.allocUnsafeSlow(100);
    assert.deepEqual(await image.readCoded(chunks, undefined, tooSmall), expected);
  });

  test('an ingest without calls is given up; one with calls is not', async () => {
    let now = 0;
    const clock = {
      now: () => now,
      monotonic: () => now,
      sleep: (_ms: number, signal?: AbortSignal) =>
        new Promise<void>((_resolve, reject) => {
          signal?.addEventListener('abort', () => reject(signal.reason));
        }),
    };
    await using test = await openTestLibrary({ clock });
    const [idle, busy] = [
      await test.account.begin(descriptionOf('idle')),
      await test.account.begin(descriptionOf('busy')),
    ];
    now = 400_000;
    await busy.have([]);
    now = 700_000;
    await test.account.begin(descriptionOf('next'));
    await assert.rejects(idle.have([]), (error) => isFailure(error, 'ingest-expired'));
    await busy.have([]);
    assert.equal(test.account.ingest(busy.id), busy);
    assert.throws(
      () => test.library.forAccount(FOREIGN).ingest(busy.id),
      (error) => isFailure(error, 'ingest-not-found'),
    );
  });

  test('a claimed digest that is wrong makes the image fail', async () => {
    await using test = await openTestLibrary({ limits: { digestBytes: 0 } });
    const session = await test.account.begin(descriptionOf('one'));
    const plainDigest = segmentOf(bytesOf(9, 10)).digest;
    const image = await session.commit(
      streamOf([{ kind: 'hole', lengthBytes: 5 }]),
      summaryOf(5, { plainDigest }),
    );
    await assert.rejects(test.account.plainDigest(image.id), (error) =>
      isFailure(error, 'verify-failed'),
    );
    assert.equal((await test.account.show(image.id)).status, 'failed');
    await assert.rejects(test.account.open(image.id), (error) =>
      isFailure(error, 'image-not-ready'),
    );
    await test.account.destroy(image.id);
    await assert.rejects(test.account.show(image.id), (error) =>
      isFailure(error, 'image-not-found'),
    );
  });

  test('a directory that is something else is left alone', async () => {
    await using test = await openTestLibrary();
    const strange = partsIn('/proc/self/fdinfo');
    await assert.rejects(DirectoryLibrary.open(strange));
    assert.equal(ACCOUNT, 'acc-aaaaa');
    await test.reopen();
  });
});
