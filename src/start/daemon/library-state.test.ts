import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { after, describe, test } from 'node:test';
import { bytesOf, ingest, segmentOf } from '../../../test/contracts/ingest-session.ts';
import { openTestLibrary } from '../../../test/contracts/test-library.ts';
import { ManualClock } from '../../../test/fakes/manual-clock.ts';
import { startTestDaemon } from '../../../test/fakes/test-daemon.ts';
import { IngotError, silentLog, systemClock } from '../../base/index.ts';
import { DirectoryDisk } from '../../keep/adapters/directory-disk.ts';
import { memoryCatalogue } from '../../keep/adapters/sqlite-catalogue.ts';
import { libraryState } from './library-state.ts';

const daemon = await startTestDaemon();
after(() => daemon[Symbol.asyncDispose]());

/** Sends bytes as they are, and reads until the daemon closes. */
function send(text: string): Promise<string> {
  const { hostname, port } = new URL(daemon.url);
  return new Promise((resolve, reject) => {
    let received = '';
    const socket = connect(Number(port), hostname, () => socket.write(text));
    socket.on('data', (bytes) => {
      received += bytes.toString();
    });
    socket.on('close', () => resolve(received));
    socket.on('error', reject);
  });
}

describe('the health of a library', () => {
  test('is ok, full when little space is left, and unusable when nothing can be written', async () => {
    const parts = { clock: systemClock, log: silentLog };
    await using library = await openTestLibrary();
    const ask = (keepFreeBytes: number): Promise<string> =>
      libraryState(library.library, { ...parts, keepFreeBytes }).health();
    assert.equal(await ask(0), 'ok');
    assert.equal(await ask(Number.MAX_SAFE_INTEGER), 'full');
    await library.reopen({ disk: readOnlyDisk(library.folder) });
    assert.equal(await ask(0), 'unusable');
  });

  test('is unusable when the catalogue does not answer', async () => {
    const clock = new ManualClock();
    let hangs = false;
    await using library = await openTestLibrary({
      clock,
      openCatalogue: async () => {
        const catalogue = memoryCatalogue();
        const lastJob = catalogue.lastJob.bind(catalogue);
        return Object.assign(catalogue, {
          lastJob: (...about: Parameters<typeof lastJob>) =>
            hangs ? new Promise<never>(() => undefined) : lastJob(...about),
        });
      },
    });
    const state = libraryState(library.library, { clock, log: silentLog, keepFreeBytes: 0 });
    assert.equal(await state.health(), 'ok');
    hangs = true;
    assert.equal(await state.health(), 'ok', 'it is asked again after a while');
    await clock.advance(5000);
    const asking = state.health();
    await clock.advance(5000);
    assert.equal(await asking, 'unusable');
  });

  test('and its counts are told without a token', async () => {
    await ingest(daemon.test.account, 'one', [segmentOf(bytesOf(1, 5000))]);
    const health = await fetch(`${daemon.url}/healthz`);
    assert.deepEqual([health.status, await health.json()], [200, { status: 'ok' }]);
    const metrics = await (await fetch(`${daemon.url}/metrics`)).text();
    assert.match(metrics, /^ingot_images 1$/m);
    assert.match(metrics, /^ingot_jobs\{kind="plain-digest",state="\w+"\} 1$/m);
    assert.match(metrics, /^ingot_disk_free_bytes [1-9]/m);
  });
});

describe('what is no request of the API', () => {
  for (const [name, text, status, code] of [
    ['a path that cannot be read', 'GET /api/ingot/v1/images/%E0%A4 HTTP/1.1', 400],
    ['a path outside of the API', 'GET /nowhere?x=1 HTTP/1.1', 404],
    ['a path inside of it', 'GET /api/ingot/v1/nowhere HTTP/1.1', 404],
    ['a header that is too large', `GET / HTTP/1.1\r\nX: ${'x'.repeat(40_000)}`, 431, 'too-large'],
    ['bytes that are no HTTP', 'hello daemon', 400],
  ] as const) {
    test(`is answered like any failure: ${name}`, async () => {
      const received = await send(`${text}\r\nHost: x\r\nConnection: close\r\n\r\n`);
      assert.match(received, new RegExp(`^HTTP/1.1 ${status} `));
      assert.match(received, /content-type: application\/json/i);
      const body = JSON.parse(received.slice(received.indexOf('\r\n\r\n') + 4)) as {
        error: { code: string; message: string; facts: object; retry: string };
      };
      assert.match(body.error.code, new RegExp(code ?? 'request-invalid'));
      assert.equal(body.error.message.includes('x=1'), false);
      assert.deepEqual(Object.keys(body.error), ['code', 'message', 'facts', 'retry']);
    });
  }
});

/** A disk on which a file can be made no more once the library is open. */
function readOnlyDisk(folder: string): DirectoryDisk {
  const disk = new DirectoryDisk(folder);
  const create = disk.create.bind(disk);
  disk.create = (path, mode) =>
    path === 'health.new'
      ? Promise.reject(new IngotError('library-unusable', `${path}: EROFS`, { errno: 'EROFS' }))
      : create(path, mode);
  return disk;
}
