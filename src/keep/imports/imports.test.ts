import assert from 'node:assert/strict';
import { createReadStream, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { open as openFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { bytesOf } from '../../../test/contracts/ingest-session.ts';
import {
  ACCOUNT,
  openTestLibrary,
  readDisk,
  type TestLibrary,
} from '../../../test/contracts/test-library.ts';
import { IMPORT_LIMITS, IMPORT_REQUEST, WHOLE_UPLOAD } from '../../../test/fakes/import-request.ts';
import { ManualClock } from '../../../test/fakes/manual-clock.ts';
import { digestOf, type Id, IngotError, isFailure, silentLog } from '../../base/index.ts';
import { openSpooled, spoolFile } from '../../capture/adapters/spooled-snapshot.ts';
import { sendDescriptors } from '../adapters/descriptor-socket.ts';
import { DirectoryUploadSpool } from '../adapters/directory-upload-spool.ts';
import { fileSpools } from '../adapters/file-spool.ts';
import { openSocketHandover } from '../adapters/socket-handover.ts';
import type { ImportRequest } from './import-request.ts';
import type { OpenReceived } from './import-work.ts';
import type { ImportParts, Imports } from './imports.ts';

const disk = bytesOf(7, 300_000);

async function* body(...pieces: Buffer[]): AsyncGenerator<Buffer> {
  yield* pieces;
}

/** A body whose sender goes away. */
async function* broken(...pieces: Buffer[]): AsyncGenerator<Buffer> {
  yield* pieces;
  throw new IngotError('request-invalid', 'the body broke off');
}

const openPlain: OpenReceived = async (file) =>
  await openSpooled(await spoolFile(createReadStream(file.path), file), file);

/** Uploads on a disk that lets go of nothing that is named. */
class StubbornSpool extends DirectoryUploadSpool {
  override remove(): Promise<void> {
    return Promise.reject(new IngotError('library-unusable', 'the uploads: EIO'));
  }
}

/** Opens nothing until it is given up. @param onInside called when it was asked */
const stuckOnce =
  (onInside: () => void): OpenReceived =>
  ({ signal }) => {
    onInside();
    return new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
  };

function open(test: TestLibrary, changes: Partial<ImportParts> = {}): Promise<Imports> {
  const uploads = join(test.folder, 'uploads');
  mkdirSync(uploads, { recursive: true });
  return test.library.openImports({
    spool: new DirectoryUploadSpool(uploads),
    openSource: openPlain,
    openUrl: () => Promise.reject(new Error('nothing is fetched')),
    openSpool: fileSpools(uploads),
    openHandover: (key) =>
      openSocketHandover(key, {
        holdOutput: () => Promise.reject(new Error('nothing is written')),
        isAnsweredByKernel: () => true,
      }),
    limits: IMPORT_LIMITS,
    ...changes,
  });
}

async function statusOf(test: TestLibrary, imageId: string): Promise<string> {
  for (const deadline = performance.now() + 60_000; performance.now() < deadline; ) {
    const { status, failure } = await test.account.show(imageId);
    if (status !== 'creating') return failure === undefined ? status : `${status}: ${failure}`;
    await new Promise((resolve) => setImmediate(resolve));
  }
  return 'creating';
}

async function lastOf<T>(items: AsyncIterable<T>): Promise<T | undefined> {
  let last: T | undefined;
  for await (const item of items) last = item;
  return last;
}

async function isGone(test: TestLibrary, imageId: string): Promise<void> {
  const folder = join(test.folder, 'uploads', imageId);
  for (const deadline = performance.now() + 60_000; existsSync(folder); ) {
    assert.ok(performance.now() < deadline, `${folder} is still there`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** A request for a file that was left at an offer. */
async function handedRequest(test: TestLibrary, imports: Imports): Promise<ImportRequest> {
  const path = join(test.folder, 'web.raw');
  writeFileSync(path, disk);
  await using file = await openFile(path);
  const { socket, key } = imports.offer(ACCOUNT);
  assert.ok(sendDescriptors(socket, key, [file.fd]));
  return { ...IMPORT_REQUEST, handover: { key, name: 'web.raw' } };
}

describe('an import', () => {
  test('that nobody goes on with is given up when its time is over', async () => {
    const clock = new ManualClock();
    await using library = await openTestLibrary({ clock });
    await using imports = await open(library);
    const { image } = await imports.begin(ACCOUNT, IMPORT_REQUEST);
    await clock.advance(IMPORT_LIMITS.expiryMs - 120_000);
    const part = { ...WHOLE_UPLOAD, isLast: false };
    await imports.receive(ACCOUNT, image.id, body(disk.subarray(0, 1000)), part);
    await clock.advance(IMPORT_LIMITS.expiryMs - 120_000);
    assert.equal((await imports.state(ACCOUNT, image.id)).offsetBytes, 1000);
    await clock.advance(240_000);
    assert.equal(await statusOf(library, image.id), 'failed: the upload was abandoned');
    await isGone(library, image.id);
  });

  test('in one request that breaks off keeps what came, is gone on with, or expires', async () => {
    const clock = new ManualClock();
    await using library = await openTestLibrary({ clock });
    await using imports = await open(library);
    const sha256 = digestOf(disk);
    const whole = {
      ...WHOLE_UPLOAD,
      offsetBytes: 'anew',
      totalBytes: disk.byteLength,
      sha256,
    } as const;
    const breakOff = async (): Promise<Id<'img'>> => {
      let begun: Id<'img'> | undefined;
      const sent = imports.upload(
        ACCOUNT,
        IMPORT_REQUEST,
        broken(disk.subarray(0, 1000)),
        whole,
        (id) => {
          begun = id;
        },
      );
      await assert.rejects(sent, (thrown) => {
        assert.ok(isFailure(thrown, 'request-invalid'));
        assert.deepEqual([thrown.facts['imageId'], thrown.facts['offsetBytes']], [begun, 1000]);
        return true;
      });
      return begun ?? 'img-00000';
    };
    const imageId = await breakOff();
    const state = await imports.state(ACCOUNT, imageId);
    assert.deepEqual([state.offsetBytes, state.sizeBytes], [1000, disk.byteLength]);
    const rest = { ...WHOLE_UPLOAD, offsetBytes: 1000 };
    const wrong = body(disk.subarray(1001), Buffer.alloc(1));
    await assert.rejects(imports.receive(ACCOUNT, imageId, wrong, rest), (thrown) =>
      isFailure(thrown, 'source-digest-mismatch'),
    );
    const again = await breakOff();
    await imports.receive(ACCOUNT, again, body(disk.subarray(1000)), rest);
    assert.equal(await statusOf(library, again), 'available');
    const left = await breakOff();
    await clock.advance(IMPORT_LIMITS.expiryMs + 120_000);
    assert.equal(await statusOf(library, left), 'failed: the upload was abandoned');
    await isGone(library, left);
  });

  test('in one request that breaks off again and again makes room for itself', async () => {
    await using library = await openTestLibrary();
    await using imports = await open(library);
    const begun = await imports.begin(ACCOUNT, IMPORT_REQUEST);
    for (let n = 0; n < IMPORT_LIMITS.perAccount + 3; n++) {
      const sent = imports.upload(
        ACCOUNT,
        IMPORT_REQUEST,
        broken(disk.subarray(0, 1000)),
        WHOLE_UPLOAD,
      );
      await assert.rejects(sent, (thrown) => isFailure(thrown, 'request-invalid'));
    }
    // What somebody begun to send in pieces is left alone.
    assert.equal((await imports.state(ACCOUNT, begun.image.id)).isReceiving, true);
    await imports.upload(ACCOUNT, IMPORT_REQUEST, body(disk), WHOLE_UPLOAD);
  });

  test('in one request of which nothing came, or too much, is failed', async () => {
    await using library = await openTestLibrary();
    await using imports = await open(library);
    for (const [sent, code] of [
      [broken(), 'request-invalid'],
      [body(disk, disk, disk, disk), 'request-too-large'],
    ] as const) {
      let imageId = '';
      const whole = imports.upload(ACCOUNT, IMPORT_REQUEST, sent, WHOLE_UPLOAD, (id) => {
        imageId = id;
      });
      await assert.rejects(whole, (thrown) => isFailure(thrown, code));
      assert.match(await statusOf(library, imageId), /^failed: /);
      await isGone(library, imageId);
    }
  });

  test('whose daemon ended is made by the next one, under its id', async () => {
    await using library = await openTestLibrary();
    const inside = Promise.withResolvers<void>();
    let imageId = '';
    {
      await using imports = await open(library, { openSource: stuckOnce(inside.resolve) });
      const sent = await imports.upload(ACCOUNT, IMPORT_REQUEST, body(disk), WHOLE_UPLOAD);
      imageId = sent.image.id;
      await inside.promise;
      await library.reopen();
    }
    // A library without imports, such as that of a command, leaves them alone.
    assert.equal((await library.account.show(imageId)).status, 'creating');
    await using _imports = await open(library);
    assert.equal(await statusOf(library, imageId), 'available');
    assert.ok((await readDisk(library.account, imageId)).equals(disk));
    const [job] = await library.library.jobs.list({ isOpen: undefined, limit: 1000 });
    assert.ok(job !== undefined);
  });

  test('of a file that was handed over is read where it lies', async () => {
    await using library = await openTestLibrary();
    await using imports = await open(library);
    const { image, job } = await imports.begin(ACCOUNT, await handedRequest(library, imports));
    assert.ok(job !== undefined);
    assert.equal(await statusOf(library, image.id), 'available');
    assert.ok((await readDisk(library.account, image.id)).equals(disk));
    assert.equal((await library.account.show(image.id)).capture.source, 'web.raw');
    await isGone(library, image.id);
  });

  test('of a file that was handed over to a daemon that has ended says so', async () => {
    await using library = await openTestLibrary();
    const inside = Promise.withResolvers<void>();
    let imageId = '';
    {
      await using imports = await open(library, { openSource: stuckOnce(inside.resolve) });
      imageId = (await imports.begin(ACCOUNT, await handedRequest(library, imports))).image.id;
      await inside.promise;
      await library.reopen();
    }
    await using _imports = await open(library);
    assert.match(await statusOf(library, imageId), /^failed: its file was handed over/);
  });

  test('that had ended before its daemon did is a job that is done', async () => {
    await using library = await openTestLibrary();
    await using imports = await open(library, { openSource: openPlain });
    const { image } = await imports.upload(ACCOUNT, IMPORT_REQUEST, body(disk), WHOLE_UPLOAD);
    assert.equal(await statusOf(library, image.id), 'available');
    await isGone(library, image.id);
    // What a process leaves that is killed between the end of the order and that of the job.
    const left = await library.library.jobs.add('import', image.id, ACCOUNT);
    const ended = await lastOf(library.library.jobs.watch(left.id, AbortSignal.timeout(60_000)));
    assert.equal(ended?.state, 'done', ended?.outcome);
    assert.equal((JSON.parse(ended.outcome) as { image: string }).image, image.id);
  });

  test('whose upload the disk does not let go of is done, and what it left goes later', async () => {
    const warnings: string[] = [];
    const log = { ...silentLog, warn: (message: string) => void warnings.push(message) };
    await using library = await openTestLibrary({ log });
    let imageId = '';
    {
      const spool = new StubbornSpool(join(library.folder, 'uploads'));
      await using imports = await open(library, { spool });
      const { image, job } = await imports.upload(
        ACCOUNT,
        IMPORT_REQUEST,
        body(disk),
        WHOLE_UPLOAD,
      );
      imageId = image.id;
      const { jobs } = library.library;
      const ended = await lastOf(jobs.watch(job?.id ?? '', AbortSignal.timeout(60_000)));
      assert.equal(ended?.state, 'done', ended?.outcome);
      // One that is given up is told why it was, not that its bytes are still there.
      const begun = await imports.begin(ACCOUNT, IMPORT_REQUEST);
      await imports.cancel(ACCOUNT, begun.image.id);
      assert.match(await statusOf(library, begun.image.id), /^failed: it was given up/);
      await library.reopen();
    }
    const words = 'what was received for an import could not be removed';
    assert.deepEqual(warnings, [words, words]);
    assert.ok(existsSync(join(library.folder, 'uploads', imageId)));
    await using _imports = await open(library);
    await isGone(library, imageId);
    assert.ok((await readDisk(library.account, imageId)).equals(disk));
  });

  test('is made although what an earlier one left cannot be removed', async () => {
    class Stuck extends DirectoryUploadSpool {
      override sweep(): Promise<void> {
        return Promise.reject(new IngotError('library-unusable', 'the uploads: EIO'));
      }
    }
    await using library = await openTestLibrary();
    await using imports = await open(library, {
      spool: new Stuck(join(library.folder, 'uploads')),
    });
    const { image } = await imports.upload(ACCOUNT, IMPORT_REQUEST, body(disk), WHOLE_UPLOAD);
    assert.equal(await statusOf(library, image.id), 'available');
  });

  test('that was made before its daemon ended is not made again', async () => {
    await using library = await openTestLibrary();
    const openings: string[] = [];
    let imageId = '';
    {
      const closesLate: OpenReceived = async (file) => {
        openings.push(file.name);
        const source = await openPlain(file);
        const close = source[Symbol.asyncDispose].bind(source);
        return Object.assign(source, {
          [Symbol.asyncDispose]: async () => {
            await close();
            await new Promise<void>((resolve) => {
              if (file.signal.aborted) resolve();
              file.signal.addEventListener('abort', () => resolve());
            });
            throw file.signal.reason;
          },
        });
      };
      await using imports = await open(library, { openSource: closesLate });
      imageId = (await imports.upload(ACCOUNT, IMPORT_REQUEST, body(disk), WHOLE_UPLOAD)).image.id;
      assert.equal(await statusOf(library, imageId), 'available');
      await library.reopen();
    }
    assert.ok(existsSync(join(library.folder, 'uploads', imageId)));
    await using _imports = await open(library);
    await isGone(library, imageId);
    assert.deepEqual(openings, ['web']);
    assert.ok((await readDisk(library.account, imageId)).equals(disk));
  });

  test('that is given up while it is made, or before, leaves nothing', async () => {
    await using library = await openTestLibrary();
    const inside = Promise.withResolvers<void>();
    await using imports = await open(library, { openSource: stuckOnce(inside.resolve) });
    const sent: string[] = [];
    for (let n = 0; n < 8; n++) {
      sent.push((await imports.upload(ACCOUNT, IMPORT_REQUEST, body(disk), WHOLE_UPLOAD)).image.id);
    }
    await inside.promise;
    const jobs = await library.library.jobs.list({ isOpen: true, limit: 10 });
    const states = jobs.map(({ state }) => state).sort();
    assert.deepEqual(new Set(states), new Set(['queued', 'running']));
    const cancelled = jobs.find(({ state }) => state === 'queued');
    assert.ok(cancelled !== undefined);
    await library.library.jobs.cancel(cancelled.id);
    assert.match(await statusOf(library, cancelled.subject), /^failed: job-..... was cancelled$/);
    for (const imageId of sent) {
      await library.account.destroy(imageId);
      await assert.rejects(library.account.show(imageId), (thrown) =>
        isFailure(thrown, 'image-not-found'),
      );
      assert.equal(existsSync(join(library.folder, 'uploads', imageId)), false);
    }
  });

  test('is sent by one request at a time: the newest', async () => {
    await using library = await openTestLibrary();
    await using imports = await open(library);
    const { image } = await imports.begin(ACCOUNT, IMPORT_REQUEST);
    const taken = Promise.withResolvers<void>();
    async function* silent(): AsyncGenerator<Buffer> {
      yield disk.subarray(0, 1000);
      taken.resolve();
      await new Promise(() => undefined);
    }
    const first = imports.receive(ACCOUNT, image.id, silent(), WHOLE_UPLOAD);
    const ended = assert.rejects(first, (thrown) => isFailure(thrown, 'ingest-expired'));
    await taken.promise;
    const rest = { ...WHOLE_UPLOAD, offsetBytes: 1000 };
    await imports.receive(ACCOUNT, image.id, body(disk.subarray(1000)), rest);
    await ended;
    assert.equal(await statusOf(library, image.id), 'available');
    assert.ok((await readDisk(library.account, image.id)).equals(disk));
  });

  test('is refused where it would take the space that stays free', async () => {
    await using library = await openTestLibrary();
    const limits = { ...IMPORT_LIMITS, diskReserveBytes: Number.MAX_SAFE_INTEGER };
    await using imports = await open(library, { limits });
    await assert.rejects(imports.begin(ACCOUNT, IMPORT_REQUEST), (thrown) =>
      isFailure(thrown, 'library-full'),
    );
  });
});
