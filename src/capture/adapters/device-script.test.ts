import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { isFailure, systemClock } from '../../base/index.ts';
import { WIRE_CODECS } from '../../bytes/index.ts';
import { ByteQueue } from '../remote/byte-queue.ts';
import { parseDeviceFacts, parseDeviceProvides } from '../remote/device-facts.ts';
import { DeviceSession } from '../remote/device-session.ts';
import { ProcessChannel } from './ssh-channel.ts';

const SCRIPT = join(import.meta.dirname, 'device-script.sh');
const KIB = 1024;

/** Shells that devices have; those that are not installed here are left out. */
const SHELLS = [['dash'], ['bash'], ['busybox', 'sh']].filter(
  ([program = '']) => spawnSync(program, ['-c', 'true']).error === undefined,
);

let folder = '';
let disk = '';
const content = randomBytes(512 * KIB);

before(() => {
  folder = mkdtempSync(join(tmpdir(), 'ingot-script-'));
  disk = join(folder, 'a disk');
  content.fill(0, 100 * KIB, 300 * KIB);
  writeFileSync(disk, content);
});
after(() => rmSync(folder, { recursive: true, force: true }));

async function startSession(
  shell: readonly string[],
  env: NodeJS.ProcessEnv = process.env,
): Promise<DeviceSession> {
  const [program = '', ...words] = shell;
  const child = spawn(program, [...words, SCRIPT], { stdio: ['pipe', 'pipe', 'pipe'], env });
  const channel = new ProcessChannel('here', child);
  const session = new DeviceSession(channel, new ByteQueue(channel.output), systemClock);
  await session.greeted();
  return session;
}

/** The id of the mount that a folder lies on. */
function mountIdOf(path: string): number {
  const fd = openSync(path, 'r');
  try {
    const facts = readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8');
    return Number(/^mnt_id:\s+(\d+)$/m.exec(facts)?.[1]);
  } finally {
    closeSync(fd);
  }
}

for (const shell of SHELLS) {
  describe(`the device script in ${shell.join(' ')}`, () => {
    test('tells what the client of the device says, or nothing without one', async () => {
      const bin = mkdtempSync(join(folder, 'bin-'));
      const PATH = `${bin}:${process.env['PATH'] ?? ''}`;
      const says = (name: string, words: string): void =>
        writeFileSync(join(bin, name), `#!/bin/sh\n${words}\n`, { mode: 0o755 });
      const lines = [
        'rootfs-image.version=1',
        'artifact_name=a',
        'rootfs-image.x.y=a b',
        'rootfs-image',
      ];
      says(
        'mender-update',
        `[ "$1" = show-provides ] && printf '%s\\n' ${lines.map((line) => `'${line}'`).join(' ')}`,
      );
      await using session = await startSession(shell, { ...process.env, PATH });
      assert.deepEqual(
        [...parseDeviceProvides(await session.provides())],
        [
          ['rootfs-image.version', '1'],
          ['rootfs-image.x.y', 'a b'],
        ],
      );
      says('mender-update', 'exit 127');
      says('mender', 'echo noise >&2; exit 1');
      assert.equal((await session.provides()).trim(), '');
    });

    test('gives ranges in every coding, and says how many bytes they were', async () => {
      await using session = await startSession(shell);
      await session.open(disk);
      const ranges = [
        { offsetBytes: 0, lengthBytes: 4 * KIB },
        { offsetBytes: 64 * KIB, lengthBytes: 128 * KIB },
        { offsetBytes: 508 * KIB, lengthBytes: 4 * KIB },
      ];
      const wanted = Buffer.concat(
        ranges.map(({ offsetBytes, lengthBytes }) =>
          content.subarray(offsetBytes, offsetBytes + lengthBytes),
        ),
      );
      const answers = await Promise.all(
        WIRE_CODECS.map((codec) => session.readRanges(ranges, codec)),
      );
      for (const answer of answers) assert.ok(answer.equals(wanted));
      await session.end();
    });

    test('tells what a path is, where it lies and which tools there are', async () => {
      await using session = await startSession(shell);
      const facts = parseDeviceFacts(await session.look(folder));
      assert.equal(facts.kind, 'folder');
      assert.equal(facts.path, folder);
      assert.ok(facts.tools.has('dd'));
      assert.ok(facts.mounts.some(({ mountPoint }) => mountPoint === '/'));
      assert.equal(parseDeviceFacts(await session.look(disk)).kind, 'file');
      assert.equal(parseDeviceFacts(await session.look('/no/such')).kind, 'missing');
      await session.end();
    });

    test('a range that cannot be read ends the session with the reason', async () => {
      await using session = await startSession(shell);
      await session.open(join(folder, 'missing'));
      await assert.rejects(
        session.readRanges([{ offsetBytes: 4096, lengthBytes: 4096 }], 'zstd'),
        (thrown) =>
          isFailure(thrown, 'frame-malformed') ||
          (isFailure(thrown, 'source-truncated') && /cannot be read/.test(thrown.message)),
      );
      await assert.rejects(session.sync('/'));
    });

    test('neither a thaw nor the end waits for a sleep of the guard', {
      timeout: 30_000,
    }, async () => {
      const bin = mkdtempSync(join(folder, 'bin-'));
      const offer = (name: string, words: string): void =>
        writeFileSync(join(bin, name), `#!/bin/sh\n${words}\n`, { mode: 0o755 });
      // Nothing is frozen here: what would do it only says so.
      offer('fsfreeze', 'exit 0');
      offer('sleep', 'exec /bin/sleep 60');
      const PATH = `${bin}:${process.env['PATH'] ?? ''}`;
      await using session = await startSession(shell, { ...process.env, PATH });
      await session.freeze({
        kind: 'mounts',
        mounts: [{ mountId: mountIdOf(folder), mountPoint: folder }],
      });
      await session.thaw();
      await session.end();
    });

    test('a mount that is not the one that was meant is not frozen', async () => {
      await using session = await startSession(shell);
      await assert.rejects(
        session.freeze({ kind: 'mounts', mounts: [{ mountId: 999999, mountPoint: folder }] }),
        (thrown) => isFailure(thrown, 'freeze-failed'),
      );
      await session.end();
    });
  });
}

test('the digest of an uncoded answer is that of its bytes', async () => {
  const hash = createHash('sha256').update(content.subarray(0, 4096)).digest('hex');
  const commands = `open ${disk}\nread 1 none 0 4096\nend\n`;
  const { stdout } = spawnSync('dash', [SCRIPT], { input: commands });
  assert.ok(stdout.includes(`INGOT done 1 ${hash}\nINGOT bye 4096\n`));
});

test('shellcheck finds nothing in the script', (t) => {
  const check = spawnSync('shellcheck', ['-s', 'sh', SCRIPT], { encoding: 'utf8' });
  if (check.error !== undefined) {
    t.skip('shellcheck is not installed');
    return;
  }
  assert.equal(check.stdout, '');
});
