import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { constants, crc32, deflateRawSync } from 'node:zlib';
import { digestOf, isFailure } from '../../src/base/index.ts';
import type { Segment } from '../../src/bytes/index.ts';
import type {
  Image,
  ImageDescription,
  IngestSummary,
  IngestTarget,
  ManifestEntry,
} from '../../src/keep/index.ts';

/** Codes bytes as a segment with Node's zlib, on the caller's thread. */
export function segmentOf(plain: Uint8Array): Segment {
  const coded = deflateRawSync(plain, { level: 1, finishFlush: constants.Z_SYNC_FLUSH });
  return {
    digest: digestOf(plain),
    plainBytes: plain.length,
    plainCrc32: crc32(plain),
    codedCrc32: crc32(coded),
    coded,
  };
}

/** Bytes that a seed gives, and no other: half text that compresses, half noise. */
export function bytesOf(seed: number, lengthBytes: number): Buffer {
  const bytes = Buffer.alloc(lengthBytes, `chunk ${seed} `);
  let state = (seed + 1) * 2_654_435_761;
  for (let i = 0; i < lengthBytes; i += 2) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

/** What the tests say of an image. */
export function descriptionOf(name: string): ImageDescription {
  return {
    name,
    description: '',
    kind: 'upload',
    arch: 'x86_64',
    ancestorId: undefined,
    compatibilityMode: false,
  };
}

/** What the tests close an ingest with. */
export function summaryOf(sizeBytes: number, changes: Partial<IngestSummary> = {}): IngestSummary {
  return {
    sizeBytes,
    chunkRule: 'test-1',
    capture: {
      consistency: 'none',
      freezeMs: 0,
      filesystem: undefined,
      source: 'a test',
      freeSpace: 'keep',
    },
    plainDigest: undefined,
    ...changes,
  };
}

/** One list of entries as the stream that a commit takes. */
export async function* streamOf(
  entries: readonly ManifestEntry[],
): AsyncGenerator<readonly ManifestEntry[], void, undefined> {
  for (let i = 0; i < entries.length; i += 100) yield entries.slice(i, i + 100);
}

/** @returns the entries of a disk that consists of these parts: chunks, or holes by their length */
export function entriesOf(parts: readonly (Segment | number)[]): ManifestEntry[] {
  return parts.map((part) =>
    typeof part === 'number'
      ? { kind: 'hole', lengthBytes: part }
      : { kind: 'chunk', digest: part.digest, lengthBytes: part.plainBytes },
  );
}

/** Takes a disk of these parts in, with all its chunks. */
export async function ingest(
  target: IngestTarget,
  name: string,
  parts: readonly (Segment | number)[],
): Promise<Image> {
  const session = await target.begin(descriptionOf(name));
  await session.put(parts.filter((part) => typeof part !== 'number'));
  const entries = entriesOf(parts);
  const sizeBytes = entries.reduce((sum, entry) => sum + entry.lengthBytes, 0);
  return await session.commit(streamOf(entries), summaryOf(sizeBytes));
}

/** What the suite needs: a target whose images it can see, and a second account's. */
export interface IngestFixture extends AsyncDisposable {
  readonly target: IngestTarget;
  /** The same library as another account. */
  readonly foreign: IngestTarget;
  /** Names of the images that `target`'s account sees. */
  names(): Promise<string[]>;
}

/** The suite of the port {@link IngestTarget}. */
export function ingestSessionContract(adapter: string, open: () => Promise<IngestFixture>): void {
  describe(`ingest into ${adapter}`, () => {
    test('an image of chunks and holes is there once commit returned, and not before', async () => {
      await using fixture = await open();
      const session = await fixture.target.begin(descriptionOf('one'));
      const chunk = segmentOf(bytesOf(1, 5000));
      await session.put([chunk]);
      assert.deepEqual(await fixture.names(), []);
      const entries = entriesOf([chunk, 70_000, chunk]);
      const image = await session.commit(streamOf(entries), summaryOf(80_000));
      assert.equal(image.virtualSizeBytes, 80_000);
      assert.equal(image.status, 'available');
      assert.match(image.id, /^img-[a-z0-9]{5}$/);
      assert.deepEqual(await fixture.names(), ['one']);
    });

    test('an empty disk is an image', async () => {
      await using fixture = await open();
      assert.equal((await ingest(fixture.target, 'empty', [])).virtualSizeBytes, 0);
    });

    test('chunks that own images hold need no second delivery', async () => {
      await using fixture = await open();
      const [old, fresh] = [segmentOf(bytesOf(1, 5000)), segmentOf(bytesOf(2, 5000))];
      await ingest(fixture.target, 'one', [old]);
      const session = await fixture.target.begin(descriptionOf('two'));
      assert.deepEqual(await session.have([fresh.digest, old.digest]), [false, true]);
      await session.put([fresh]);
      const entries = entriesOf([old, fresh]);
      const image = await session.commit(streamOf(entries), summaryOf(10_000));
      assert.equal(image.addedBytes, fresh.coded.length);
    });

    test('chunks that only foreign images hold are not granted, but may be delivered', async () => {
      await using fixture = await open();
      const chunk = segmentOf(bytesOf(1, 5000));
      await ingest(fixture.target, 'one', [chunk]);
      const session = await fixture.foreign.begin(descriptionOf('two'));
      assert.deepEqual(await session.have([chunk.digest]), [false]);
      const stolen = session.commit(streamOf(entriesOf([chunk])), summaryOf(5000));
      await assert.rejects(stolen, (error) => isFailure(error, 'chunk-missing'));
      const image = await ingest(fixture.foreign, 'two', [chunk]);
      assert.equal(image.virtualSizeBytes, 5000);
    });

    test('a chunk that was put twice is stored once', async () => {
      await using fixture = await open();
      const chunk = segmentOf(bytesOf(1, 5000));
      const session = await fixture.target.begin(descriptionOf('one'));
      await session.put([chunk, chunk]);
      await session.put([chunk]);
      assert.deepEqual(await session.have([chunk.digest]), [true]);
      const image = await session.commit(streamOf(entriesOf([chunk])), summaryOf(5000));
      assert.equal(image.addedBytes, chunk.coded.length);
    });

    const good = segmentOf(bytesOf(1, 5000));
    const lies: Record<string, Segment> = {
      'another digest': { ...good, digest: segmentOf(bytesOf(2, 5000)).digest },
      'another length': { ...good, plainBytes: 4999 },
      'another coded CRC': { ...good, codedCrc32: 1 },
      'another plain CRC': { ...good, plainCrc32: 1 },
      'half of its bytes': {
        ...good,
        coded: good.coded.subarray(0, 2000),
        codedCrc32: crc32(good.coded.subarray(0, 2000)),
      },
      'bytes behind its end': {
        ...good,
        coded: Buffer.concat([good.coded, Buffer.alloc(3)]),
        codedCrc32: crc32(Buffer.concat([good.coded, Buffer.alloc(3)])),
      },
      'no bytes at all': { ...good, coded: Buffer.alloc(0), codedCrc32: 0 },
      'more plain bytes than a chunk has': { ...good, plainBytes: 262_145 },
    };
    for (const [lie, segment] of Object.entries(lies)) {
      test(`a segment with ${lie} is refused`, async () => {
        await using fixture = await open();
        const session = await fixture.target.begin(descriptionOf('one'));
        await assert.rejects(session.put([segment]), (error) =>
          isFailure(error, 'segment-malformed'),
        );
        await session.abort();
        assert.deepEqual(await fixture.names(), []);
      });
    }

    test('a manifest that is not the disk is refused', async () => {
      for (const [entries, sizeBytes] of [
        [entriesOf([good]), 5001],
        [[{ kind: 'chunk', digest: good.digest, lengthBytes: 4999 }], 4999],
        [[{ kind: 'chunk', digest: good.digest, lengthBytes: 0 }], 0],
        [[{ kind: 'hole', lengthBytes: -1 }], -1],
        [[{ kind: 'hole', lengthBytes: 0.5 }], 0.5],
      ] as [ManifestEntry[], number][]) {
        await using fixture = await open();
        const session = await fixture.target.begin(descriptionOf('one'));
        await session.put([good]);
        const commit = session.commit(streamOf(entries), summaryOf(sizeBytes));
        await assert.rejects(commit, (error) => isFailure(error, 'manifest-invalid'));
        assert.deepEqual(await fixture.names(), []);
      }
    });

    test('a manifest may not name a chunk that nobody gave', async () => {
      await using fixture = await open();
      const session = await fixture.target.begin(descriptionOf('one'));
      const commit = session.commit(streamOf(entriesOf([good])), summaryOf(5000));
      await assert.rejects(commit, (error) => isFailure(error, 'chunk-missing'));
      assert.deepEqual(await fixture.names(), []);
    });

    test('an aborted ingest leaves nothing, and aborting again is safe', async () => {
      await using fixture = await open();
      const session = await fixture.target.begin(descriptionOf('one'));
      await session.put([good]);
      await session.abort();
      await session.abort();
      await assert.rejects(session.put([good]), (error) => isFailure(error, 'ingest-expired'));
      assert.deepEqual(await fixture.names(), []);
    });

    test('aborting after commit takes nothing back', async () => {
      await using fixture = await open();
      const session = await fixture.target.begin(descriptionOf('one'));
      await session.put([good]);
      await session.commit(streamOf(entriesOf([good])), summaryOf(5000));
      await session.abort();
      assert.deepEqual(await fixture.names(), ['one']);
    });

    test('several puts at once all arrive', async () => {
      await using fixture = await open();
      const session = await fixture.target.begin(descriptionOf('one'));
      const chunks = Array.from({ length: 40 }, (_, i) => segmentOf(bytesOf(i, 3000)));
      await Promise.all(chunks.map((chunk) => session.put([chunk])));
      const image = await session.commit(streamOf(entriesOf(chunks)), summaryOf(120_000));
      assert.equal(
        image.addedBytes,
        chunks.reduce((sum, chunk) => sum + chunk.coded.length, 0),
      );
    });
  });
}
