import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { FAILURES, isFailure, NODE_FLAGS, noProgress } from '../../src/base/index.ts';
import { DaemonClient } from '../../src/start/client/daemon-client.ts';
import { runJob } from '../../src/start/client/follow-job.ts';
import { HttpIngestTarget } from '../../src/start/client/http-ingest-target.ts';
import { chooseProfile } from '../../src/start/settings/profiles.ts';
import {
  bytesOf,
  descriptionOf,
  entriesOf,
  ingest,
  segmentOf,
  streamOf,
  summaryOf,
} from '../contracts/ingest-session.ts';
import { type ChildDaemon, daemonFolder } from './child-daemon.ts';

const main = join(import.meta.dirname, '../../src/start/cli/main.ts');
const folder = mkdtempSync(join(tmpdir(), 'ingot-killed-'));
const env = { ...process.env, XDG_CONFIG_HOME: join(folder, 'config'), NO_COLOR: '1' };
const daemons = daemonFolder(folder);
after(() => {
  daemons.killAll();
  rmSync(folder, { recursive: true, force: true });
});

interface DaemonAndClient extends ChildDaemon {
  readonly client: DaemonClient;
}

async function start(): Promise<DaemonAndClient> {
  const daemon = await daemons.start();
  const client = new DaemonClient(chooseProfile(daemon.env, undefined), undefined);
  return {
    ...daemon,
    client,
    end: async (signal) => {
      client[Symbol.dispose]();
      return await daemon.end(signal);
    },
  };
}

async function names(client: DaemonClient): Promise<string[]> {
  const found: string[] = [];
  for await (const image of client.images()) found.push(image.name);
  return found.toSorted();
}

async function assertClean(client: DaemonClient): Promise<void> {
  const call = { method: 'POST', path: '/library/verify' } as const;
  const job = await runJob(client, call, { onProgress: noProgress });
  assert.equal((job.report as { isClean: boolean }).isClean, true, JSON.stringify(job.report));
}

const chunks = Array.from({ length: 60 }, (_, i) => segmentOf(bytesOf(i, 20_000 + i)));

describe('a daemon that is killed with SIGKILL', () => {
  test('in the middle of an upload shows nothing of it, and takes it in again', async () => {
    const first = await start();
    const session = await new HttpIngestTarget(first.client).begin(descriptionOf('half'));
    await session.put(chunks.slice(0, 30));
    await first.end('SIGKILL');
    const second = await start();
    assert.deepEqual(await names(second.client), []);
    await assertClean(second.client);
    await ingest(new HttpIngestTarget(second.client), 'whole', chunks);
    assert.deepEqual(await names(second.client), ['whole']);
    assert.equal(await second.end('SIGTERM'), 0);
  });

  test('while it commits keeps what it acknowledged, whole, and nothing half', async () => {
    const acknowledged = ['whole'];
    for (const [round, delayMs] of [5, 40].entries()) {
      const daemon = await start();
      assert.deepEqual(
        (await names(daemon.client)).filter((name) => acknowledged.includes(name)),
        acknowledged,
      );
      const name = `round ${round}`;
      const session = await new HttpIngestTarget(daemon.client).begin(descriptionOf(name));
      await session.put(chunks);
      const entries = entriesOf([...chunks, 4096 * (round + 1)]);
      const sizeBytes = entries.reduce((sum, entry) => sum + entry.lengthBytes, 0);
      const committing = session.commit(streamOf(entries), summaryOf(sizeBytes)).then(
        () => acknowledged.push(name),
        (thrown) => assert.ok(isFailure(thrown, 'daemon-unreachable'), String(thrown)),
      );
      // Whatever has happened by then: no instant of the commit may matter.
      await new Promise((resolve) => setTimeout(resolve, delayMs));
      await daemon.end('SIGKILL');
      await committing;
    }
    const last = await start();
    const seen = await names(last.client);
    for (const name of acknowledged) assert.ok(seen.includes(name), `${name} was lost`);
    await assertClean(last.client);
    await last.end('SIGTERM');
  });
});

describe('a daemon that hangs (SIGSTOP)', () => {
  test('keeps its library: a second one is refused, and the first goes on', async () => {
    const first = await start();
    await ingest(new HttpIngestTarget(first.client), 'before', chunks);
    first.signal('SIGSTOP');
    try {
      const argv = ['serve', '--data', join(folder, 'data'), '--listen', '127.0.0.1:0'];
      const second = spawnSync(
        process.execPath,
        [...NODE_FLAGS, main, ...argv, '--engine', 'zlib'],
        { env, encoding: 'utf8', timeout: 120_000 },
      );
      assert.equal(second.status, FAILURES['library-busy'].exit, second.stderr);
    } finally {
      first.signal('SIGCONT');
    }
    await ingest(new HttpIngestTarget(first.client), 'after', chunks);
    const seen = await names(first.client);
    for (const name of ['before', 'after']) assert.ok(seen.includes(name), name);
    await assertClean(first.client);
    assert.equal(await first.end('SIGTERM'), 0);
  });
});
