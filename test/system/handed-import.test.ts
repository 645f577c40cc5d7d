import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { jobSchema, type WireImage, type WireJob } from '../../src/serve/index.ts';
import { DaemonClient } from '../../src/start/client/daemon-client.ts';
import { type ChildDaemon, daemonFolder } from './child-daemon.ts';
import { eventually, type RunningCommand, startIngot } from './ingot-command.ts';

const folder = mkdtempSync(join(tmpdir(), 'ingot-handed-'));
mkdirSync(join(folder, 'own'));
mkdirSync(join(folder, 'weak'));
const daemons = daemonFolder(join(folder, 'own'));
/** Root without the right to read what a mode forbids: as a daemon with a user of its own. */
const weak = daemonFolder(join(folder, 'weak'), [
  'setpriv',
  '--bounding-set=-dac_override,-dac_read_search',
]);
after(() => {
  daemons.killAll();
  weak.killAll();
  rmSync(folder, { recursive: true, force: true });
});

const disk = join(folder, 'disk.raw');
/**
 * Writes noise, which takes an engine longest, and which the library has none of: long enough to
 * meet an import in its middle.
 */
beforeEach(async () => {
  await using file = await open(disk, 'w');
  for (let i = 0; i < 30; i++) await file.write(randomBytes(8 * 1024 * 1024));
});

function importing(daemon: ChildDaemon, name: string): RunningCommand {
  return startIngot(['images', 'import', disk, '--name', name], { env: daemon.env });
}

async function json<T>(daemon: ChildDaemon, ...args: string[]): Promise<T> {
  const command = startIngot([...args, '--json'], { env: daemon.env, stdout: 'pipe' });
  let text = '';
  command.child.stdout?.setEncoding('utf8').on('data', (some: string) => {
    text += some;
  });
  const { status, stderr } = await command.ended;
  assert.equal(status, 0, stderr);
  return JSON.parse(text) as T;
}

async function imports(daemon: ChildDaemon): Promise<WireJob[]> {
  const jobs = await json<WireJob[]>(daemon, 'jobs', 'list');
  return jobs.filter(({ kind }) => kind === 'import');
}

async function names(daemon: ChildDaemon): Promise<string[]> {
  return (await json<WireImage[]>(daemon, 'images', 'list')).map(({ name }) => name).sort();
}

function holdsDisk({ pid }: ChildDaemon): boolean {
  const fds = `/proc/${pid}/fd`;
  return readdirSync(fds).some((fd) => {
    try {
      return readlinkSync(join(fds, fd)) === disk;
    } catch {
      return false;
    }
  });
}

const isRead = (daemon: ChildDaemon): Promise<true> =>
  eventually('the daemon opens the disk', () => holdsDisk(daemon) || undefined);

const isLetGo = (daemon: ChildDaemon): Promise<true> =>
  eventually('the daemon closes the disk', () => !holdsDisk(daemon) || undefined);

const jobsSchema = z.object({ jobs: z.array(jobSchema) });

/** Waits until an import of the daemon is in this state, and sees it within milliseconds. */
async function reaches(daemon: ChildDaemon, wanted: WireJob['state']): Promise<void> {
  const { INGOT_CLIENT: client = '', INGOT_SECRET: secret = '' } = daemon.env;
  using api = new DaemonClient({ url: daemon.url, client, secret }, undefined);
  for (const deadline = performance.now() + 240_000; performance.now() < deadline; ) {
    const { jobs } = await api.json(jobsSchema, { method: 'GET', path: '/jobs' });
    if (jobs.some(({ kind, state }) => kind === 'import' && state === wanted)) return;
    await sleep(5);
  }
  throw new Error(`no import was ${wanted} within 240 s`);
}

describe('a plain file that a daemon of this machine is handed', () => {
  test('is read by the daemon, which goes on when the command is killed', async () => {
    const daemon = await daemons.start();
    const command = importing(daemon, 'killed');
    await isRead(daemon);
    command.child.kill('SIGKILL');
    await command.ended;
    await reaches(daemon, 'done');
    await isLetGo(daemon);
    assert.deepEqual(await names(daemon), ['killed']);
    await daemon.end('SIGTERM');
  });

  test('is let go of when the command is interrupted, and nothing is made', async () => {
    const daemon = await daemons.start();
    const before = await names(daemon);
    const command = importing(daemon, 'interrupted');
    await isRead(daemon);
    command.child.kill('SIGINT');
    const { status } = await command.ended;
    assert.notEqual(status, 0);
    await isLetGo(daemon);
    assert.deepEqual(await names(daemon), before);
    await daemon.end('SIGTERM');
  });

  test('is lost with a daemon that is killed, and the command says what to do', async () => {
    const daemon = await daemons.start();
    const before = await names(daemon);
    const command = importing(daemon, 'lost');
    await reaches(daemon, 'running');
    await daemon.end('SIGKILL');
    const next = await daemons.start('--listen', daemon.url.replace('http://', ''));
    const { status, stderr } = await command.ended;
    assert.notEqual(status, 0);
    assert.match(stderr, /handed over to a daemon that has ended since: import it again/);
    assert.deepEqual(await names(next), before);
    await next.end('SIGTERM');
  });

  test('is sent by the command where the daemon may not read it', async () => {
    const daemon = await weak.start();
    chmodSync(disk, 0);
    const { status, stderr } = await importing(daemon, 'sent').ended;
    assert.equal(status, 0, stderr);
    assert.deepEqual(await imports(daemon), []);
    assert.deepEqual(await names(daemon), ['sent']);
    await daemon.end('SIGTERM');
  });
});
