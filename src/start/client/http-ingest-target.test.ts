import assert from 'node:assert/strict';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, describe, test } from 'node:test';
import { constants, crc32, deflateRawSync } from 'node:zlib';
import { startMemoryDaemon } from '../../../test/fakes/memory-daemon.ts';
import { digestOf, IngotError, isFailure } from '../../base/index.ts';
import type { Segment } from '../../bytes/index.ts';
import type { ImageDescription, IngestSummary, ManifestEntry } from '../../keep/index.ts';
import { DaemonClient } from './daemon-client.ts';
import { HttpIngestTarget } from './http-ingest-target.ts';

const daemon = await startMemoryDaemon();
const { backend } = daemon;
const profile = { url: daemon.url, client: backend.caller.clientId, secret: backend.secret };
const client = new DaemonClient(profile, undefined);
const target = new HttpIngestTarget(client);
after(async () => {
  client[Symbol.dispose]();
  await daemon[Symbol.asyncDispose]();
});

const description: ImageDescription = {
  name: 'over HTTP',
  description: 'two\nlines',
  kind: 'snapshot',
  arch: 'aarch64',
  ancestorId: undefined,
  compatibilityMode: false,
};

function segmentOf(plain: Buffer): Segment {
  const coded = deflateRawSync(plain, { finishFlush: constants.Z_SYNC_FLUSH });
  return {
    digest: digestOf(plain),
    plainBytes: plain.byteLength,
    plainCrc32: crc32(plain),
    codedCrc32: crc32(coded),
    coded,
  };
}

function summaryOf(sizeBytes: number): IngestSummary {
  return {
    sizeBytes,
    chunkRule: 'file-extents-3',
    plainDigest: undefined,
    capture: {
      consistency: 'frozen',
      freezeMs: 3,
      filesystem: 'ext4',
      source: '/mnt',
      freeSpace: 'zero',
    },
  };
}

async function* batches(...all: ManifestEntry[][]): AsyncGenerator<ManifestEntry[]> {
  yield* all;
}

const plain = Buffer.alloc(5000, 'ingot');
const entries: ManifestEntry[] = [
  { kind: 'hole', lengthBytes: 4096 },
  { kind: 'chunk', digest: digestOf(plain), lengthBytes: plain.byteLength },
];

describe('an ingest over HTTP', () => {
  test('makes an image of what was sent, and nothing is seen before', async () => {
    const session = await target.begin(description);
    assert.deepEqual(await session.have([digestOf(plain), digestOf(Buffer.alloc(1))]), [
      false,
      false,
    ]);
    await session.put([segmentOf(plain)]);
    assert.deepEqual(await session.have([digestOf(Buffer.alloc(1)), digestOf(plain)]), [
      false,
      true,
    ]);
    assert.equal(backend.stored.size, 0);
    const image = await session.commit(batches(entries), summaryOf(9096));
    assert.deepEqual(image, backend.stored.get(image.id)?.image);
    assert.ok(
      backend.stored.get(image.id)?.plain.equals(Buffer.concat([Buffer.alloc(4096), plain])),
    );
    await session.abort();
    assert.equal(backend.stored.size, 1);
  });

  test('that is given up leaves no session', async () => {
    const session = await target.begin(description);
    assert.equal(backend.open.size, 1);
    await session.abort();
    await session.abort();
    assert.equal(backend.open.size, 0);
    await assert.rejects(session.have([digestOf(plain)]), (thrown) =>
      isFailure(thrown, 'ingest-expired'),
    );
  });

  test('is refused with the failure that the library gave', async () => {
    const session = await target.begin(description);
    const lying = { ...segmentOf(plain), digest: digestOf(Buffer.alloc(9)) };
    await assert.rejects(session.put([lying]), (thrown) => isFailure(thrown, 'segment-malformed'));
    await assert.rejects(session.commit(batches(entries), summaryOf(1)), (thrown) =>
      isFailure(thrown, 'manifest-invalid'),
    );
    assert.equal(backend.open.size, 0, 'a failed commit ends the session');
  });

  test('whose source fails in the middle of the manifest makes no image', async () => {
    const before = backend.stored.size;
    const session = await target.begin(description);
    async function* broken(): AsyncGenerator<ManifestEntry[]> {
      yield [entries[0] ?? assert.fail()];
      throw new IngotError('source-unreadable', 'the disk went away');
    }
    await assert.rejects(session.commit(broken(), summaryOf(9096)), (thrown) =>
      isFailure(thrown, 'source-unreadable'),
    );
    assert.equal(backend.stored.size, before);
  });
});

describe('a daemon that fails', () => {
  let server: Server | undefined;
  after(() => server?.close());

  async function answering(...answers: (number | string)[]): Promise<DaemonClient> {
    server?.close();
    server = createServer((request, response) => {
      if (request.url?.endsWith('/token') === true) {
        response.end(JSON.stringify({ access_token: 'x', expires_in: 3600 }));
        return;
      }
      const answer = answers.shift() ?? 'cut';
      if (answer === 'cut') request.socket.destroy();
      else if (typeof answer === 'number') response.writeHead(answer).end('no reason');
      else response.end(answer);
    }).listen(0, '127.0.0.1');
    await new Promise((resolve) => server?.once('listening', resolve));
    const { port } = server.address() as AddressInfo;
    return new DaemonClient({ ...profile, url: `http://127.0.0.1:${port}` }, undefined);
  }

  test('is asked again when the connection broke off', async () => {
    using asked = await answering('cut', '{"images":[],"next":null}');
    const found: unknown[] = [];
    for await (const image of asked.images()) found.push(image);
    assert.deepEqual(found, []);
  });

  test('is named when it speaks another language', async () => {
    using asked = await answering('<html>', 502);
    const ask = (): Promise<unknown> => asked.image('img-aaaaa');
    await assert.rejects(ask, (thrown) => isFailure(thrown, 'daemon-protocol'));
    await assert.rejects(ask, (thrown) => isFailure(thrown, 'daemon-protocol'));
  });

  test('is not asked twice to begin an ingest', async () => {
    using asked = await answering('cut', '{"id":"ing-aaaaa"}');
    await assert.rejects(new HttpIngestTarget(asked).begin(description), (thrown) =>
      isFailure(thrown, 'daemon-unreachable'),
    );
  });
});
