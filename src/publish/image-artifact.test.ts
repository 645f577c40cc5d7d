import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { bytesOf, ingest, segmentOf } from '../../test/contracts/ingest-session.ts';
import { openTestLibrary, readDisk, type TestLibrary } from '../../test/contracts/test-library.ts';
import { digestOf, isFailure } from '../base/index.ts';
import { type RootfsDescription, readArtifact } from '../bytes/index.ts';
import { publishImageArtifact } from './image-artifact.ts';
import type { PublishedFile } from './published-file.ts';

const description: RootfsDescription = {
  version: 3,
  info: {
    name: 'release-1',
    group: undefined,
    dependsNames: [],
    deviceTypes: ['qemu'],
    dependsGroups: [],
  },
  software: { filesystem: undefined, name: undefined, version: undefined, usesDefaults: true },
  softwareOverrides: true,
  provides: new Map(),
  depends: new Map(),
  clearsProvides: [],
  addsDefaultClears: true,
  checksumKey: 'rootfs-image.checksum',
  scripts: [],
};

async function publish(library: TestLibrary, imageId: string): Promise<PublishedFile> {
  const plainDigest = await library.account.plainDigest(imageId);
  const image = await library.account.open(imageId);
  return publishImageArtifact(image, { description, payloadName: 'rootfs.ext4', plainDigest });
}

async function bytesOfRange(file: PublishedFile, start: number, end: number): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of file.read(start, end)) pieces.push(Buffer.from(piece));
  return Buffer.concat(pieces);
}

test('the artifact of an image holds the image, and is as long as it said', async () => {
  await using library = await openTestLibrary();
  const plains = Array.from({ length: 40 }, (_, i) => bytesOf(i, 3000 + i * 700));
  const image = await ingest(library.account, 'one', [
    ...plains.map(segmentOf),
    20_000_123,
    segmentOf(bytesOf(99, 100_000)),
  ]);
  await using file = await publish(library, image.id);
  const whole = await bytesOfRange(file, 0, file.sizeBytes);
  assert.equal(whole.length, file.sizeBytes);
  const payload: Buffer[] = [];
  const artifact = await readArtifact(
    (async function* () {
      yield whole;
    })(),
    {
      onPayloadFile: async (_payload, body) => {
        for await (const piece of body) payload.push(Buffer.from(piece));
      },
    },
  );
  assert.equal(artifact.info.name, 'release-1');
  assert.equal(
    artifact.payload.typeInfo.provides.get('rootfs-image.checksum'),
    artifact.files[0]?.digest,
  );
  assert.ok(Buffer.concat(payload).equals(await readDisk(library.account, image.id)));

  const offset = fc.integer({ min: 0, max: file.sizeBytes });
  await fc.assert(
    fc.asyncProperty(offset, offset, async (a, b) => {
      const [start, end] = [Math.min(a, b), Math.max(a, b)];
      assert.ok((await bytesOfRange(file, start, end)).equals(whole.subarray(start, end)));
    }),
    { numRuns: 60 },
  );
});

test('the validator changes with what the artifact says, and only then', async () => {
  await using library = await openTestLibrary();
  const image = await ingest(library.account, 'one', [segmentOf(bytesOf(1, 5000)), 4096]);
  await using one = await publish(library, image.id);
  await using same = await publish(library, image.id);
  assert.equal(one.etag, same.etag);
  const plainDigest = await library.account.plainDigest(image.id);
  const other = { ...description, info: { ...description.info, name: 'release-2' } };
  await using two = publishImageArtifact(await library.account.open(image.id), {
    description: other,
    payloadName: 'rootfs.ext4',
    plainDigest,
  });
  assert.notEqual(one.etag, two.etag);
});

test('a payload name that clients refuse is refused', async () => {
  await using library = await openTestLibrary();
  const image = await ingest(library.account, 'one', [4096]);
  await using open = await library.account.open(image.id);
  const plainDigest = await library.account.plainDigest(image.id);
  for (const payloadName of ['../x', 'a b', 'x'.repeat(91), '']) {
    assert.throws(
      () => publishImageArtifact(open, { description, payloadName, plainDigest }),
      (thrown) => isFailure(thrown, 'request-invalid'),
    );
  }
});

test('an image of 8 GiB and more has its size in a PAX header of the inner archive', async () => {
  await using library = await openTestLibrary();
  const sizeBytes = 9 * 2 ** 30;
  const image = await ingest(library.account, 'one', [sizeBytes]);
  // Not computed: hashing 9 GiB of zeros takes longer than all other tests.
  const plainDigest = digestOf(Buffer.of());
  await using file = publishImageArtifact(await library.account.open(image.id), {
    description,
    payloadName: 'rootfs.ext4',
    plainDigest,
  });
  const start = await bytesOfRange(file, 0, 16_384);
  assert.ok(start.includes(`19 size=${sizeBytes}\n`));
  const end = await bytesOfRange(file, file.sizeBytes - 2048, file.sizeBytes);
  assert.ok(end.subarray(-1024).equals(Buffer.alloc(1024)));
});
