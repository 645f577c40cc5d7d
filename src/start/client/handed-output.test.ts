import assert from 'node:assert/strict';
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer, text } from 'node:stream/consumers';
import { after, beforeEach, describe, test } from 'node:test';
import { bytesOf, ingest, segmentOf } from '../../../test/contracts/ingest-session.ts';
import { startTestDaemon } from '../../../test/fakes/test-daemon.ts';
import { type FailureCode, isFailure, KIB, MIB } from '../../base/index.ts';
import { openPastCache } from '../../capture/adapters/direct-writer.ts';
import { reserveSpace } from '../../capture/adapters/libc.ts';
import type { WireOutputOrder } from '../../serve/index.ts';
import type { DaemonClient } from './daemon-client.ts';
import { handOver } from './hand-over.ts';
import { writeByDaemon } from './handed-output.ts';
import { type RemoteFile, remoteFile } from './image-stream.ts';

const folder = mkdtempSync(join(tmpdir(), 'ingot-output-of-daemon-'));
after(() => rmSync(folder, { recursive: true }));
const path = join(folder, 'x.mender');

const daemon = await startTestDaemon();
after(() => daemon[Symbol.asyncDispose]());
const { own, foreign } = daemon;
const plains = Array.from({ length: 40 }, (_, i) => bytesOf(i, 150 * KIB + i * 77));
const image = await ingest(daemon.test.account, 'web', plains.map(segmentOf));
const file = await remoteFile(own, image.id, 'gzip');
const member = await buffer(await own.call({ method: 'GET', path: `/images/${image.id}/gzip` }));

writeFileSync(path, '');
const skip = await (async () => {
  await using handle = await open(path, 'r+');
  await using direct = await openPastCache(handle);
  return direct === undefined ? `${tmpdir()} takes no direct writes` : false;
})();

/** A file with space, open both ways. */
async function withFile<T>(
  body: (descriptors: { readonly buffered: number; readonly direct: number }) => Promise<T>,
): Promise<T> {
  await using handle: FileHandle = await open(path, 'w+');
  await using direct = await openPastCache(handle);
  await reserveSpace(handle.fd, 8 * MIB);
  return await body({ buffered: handle.fd, direct: direct?.fd ?? -1 });
}

/** Sends an order. @returns its events as they came */
async function order(
  client: DaemonClient,
  changes: Partial<WireOutputOrder>,
  id: string = image.id,
): Promise<string> {
  return await withFile(async ({ buffered, direct }) => {
    const key = (await handOver(client, [buffered, direct])) ?? '';
    const wanted: WireOutputOrder = {
      handover: { key, name: 'x.mender' },
      etag: file.etag,
      start_byte: 0,
      end_byte: file.sizeBytes,
      offset_bytes: 0,
      ...changes,
    };
    const answer = await client.call({
      method: 'POST',
      path: `/images/${id}/gzip/output`,
      headers: { 'content-type': 'application/json' },
      body: [Buffer.from(JSON.stringify(wanted))],
    });
    return await text(answer);
  });
}

/** How often this process, the daemon's too, has the file open. */
function openCount(): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(join('/proc/self/fd', fd)) === path;
    } catch {
      return false;
    }
  }).length;
}

describe('a part of an image that the daemon writes into a file of its client', { skip }, () => {
  beforeEach(() => rmSync(path, { force: true }));

  test('lies where it was wanted, whatever its ends are', async () => {
    for (const [startByte, endByte, offsetBytes] of [
      [0, member.length, 0],
      [10, member.length - 10, 5003],
      [4 * MIB - 1, 4 * MIB + 70_000, 4096],
      [70, 71, 1],
      [9, 9, 0],
    ] as const) {
      const told: number[] = [];
      const isWritten = await withFile((descriptors) =>
        writeByDaemon(own, {
          file,
          startByte,
          endByte,
          place: { name: 'x.mender', offsetBytes, ...descriptors },
          onProgress: (doneBytes) => told.push(doneBytes),
        }),
      );
      assert.ok(isWritten);
      assert.equal(told.at(-1), endByte - startByte);
      const wanted = Buffer.alloc(8 * MIB);
      member.copy(wanted, offsetBytes, startByte, endByte);
      assert.ok(readFileSync(path).equals(wanted), `${startByte} to ${endByte}`);
    }
  });

  test('is not written when the image has become another file', async () => {
    const other: RemoteFile = { ...file, etag: 'another' };
    const writing = withFile((descriptors) =>
      writeByDaemon(own, {
        file: other,
        startByte: 0,
        endByte: 1,
        place: { name: 'x.mender', offsetBytes: 0, ...descriptors },
        onProgress: () => undefined,
      }),
    );
    await assert.rejects(writing, (thrown) => isFailure(thrown, 'content-changed'));
  });

  const refusals: Readonly<
    Record<string, readonly [code: FailureCode, changes: Partial<WireOutputOrder>]>
  > = {
    'a file of another validator': ['content-changed', { etag: 'another' }],
    'more bytes than there are': ['range-not-satisfiable', { end_byte: file.sizeBytes + 1 }],
    'an end before its start': ['range-not-satisfiable', { start_byte: 2, end_byte: 1 }],
    'bytes beyond the space of the file': ['target-too-small', { offset_bytes: 8 * MIB }],
    'a place before the file': ['request-invalid', { offset_bytes: -1 }],
    'no number': ['request-invalid', { start_byte: 0.5 }],
    'a key that nobody was offered': [
      'source-not-found',
      { handover: { key: 'k'.repeat(43), name: 'x' } },
    ],
  };
  for (const [what, [code, changes]] of Object.entries(refusals)) {
    test(`is refused for ${what}, and nothing is written`, async () => {
      await assert.rejects(order(own, changes), (thrown) => isFailure(thrown, code));
      assert.ok(readFileSync(path).equals(Buffer.alloc(8 * MIB)));
      assert.equal(openCount(), 0);
    });
  }

  test('is refused of an image that the client may not see, and of none', async () => {
    for (const [client, id] of [
      [foreign, image.id],
      [own, 'img-zzzzz'],
    ] as const) {
      await assert.rejects(order(client, {}, id), (thrown) => isFailure(thrown, 'image-not-found'));
      assert.ok(readFileSync(path).equals(Buffer.alloc(8 * MIB)));
    }
  });

  test('is refused for a file that another account has handed over', async () => {
    await withFile(async ({ buffered, direct }) => {
      const key = (await handOver(foreign, [buffered, direct])) ?? '';
      const handover = { key, name: 'x.mender' };
      const taking = order(own, { handover });
      await assert.rejects(taking, (thrown) => isFailure(thrown, 'source-not-found'));
    });
  });

  test('is told of as it failed, when a chunk is damaged', async () => {
    const packs = join(daemon.test.folder, 'packs');
    const [pack = ''] = readdirSync(packs, { recursive: true, withFileTypes: true })
      .filter((one) => one.isFile())
      .map((one) => join(one.parentPath, one.name));
    const sound = readFileSync(pack);
    const damaged = Buffer.from(sound);
    damaged.writeUInt8(damaged.readUInt8(3 * MIB) ^ 1, 3 * MIB);
    writeFileSync(pack, damaged);
    try {
      const events = await order(own, {});
      assert.match(events, /"state":"failed".*"code":"chunk-corrupt"/);
      assert.equal(openCount(), 0);
    } finally {
      writeFileSync(pack, sound);
    }
  });
});
