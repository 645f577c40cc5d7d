import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { isFailure } from '../../base/index.ts';
import { openDescriptorSocket, sendDescriptors } from './descriptor-socket.ts';
import { openSocketHandover } from './socket-handover.ts';

const folder = mkdtempSync(join(tmpdir(), 'ingot-handover-'));
after(() => rmSync(folder, { recursive: true }));
const path = join(folder, 'disk.raw');
writeFileSync(path, 'all of the disk');

const PARTS = {
  holdOutput: () => Promise.reject(new Error('nothing is written')),
  isAnsweredByKernel: () => true,
};
const openCount = (): number => readdirSync('/proc/self/fd').length;

/** Leaves a file there and closes the own descriptor, as a command that ends does. */
function leave(socket: string, key: string, file = path, times = 1): boolean {
  const fd = openSync(file, 'r');
  try {
    return sendDescriptors(
      socket,
      key,
      Array.from({ length: times }, () => fd),
    );
  } finally {
    closeSync(fd);
  }
}

function closeAll(descriptors: readonly number[] | undefined): void {
  assert.ok(descriptors !== undefined);
  for (const fd of descriptors) closeSync(fd);
}

describe('a descriptor socket', () => {
  test('takes the file of another process, which may end before it is taken', () => {
    using socket = openDescriptorSocket();
    const source = join(import.meta.dirname, 'descriptor-socket.ts');
    const code = `import(${JSON.stringify(source)}).then(({ sendDescriptors }) => {
      const fd = require('node:fs').openSync(${JSON.stringify(path)}, 'r');
      process.exit(sendDescriptors(${JSON.stringify(socket.name)}, 'key', [fd]) ? 0 : 1);
    })`;
    const sent = spawnSync(process.execPath, ['-e', code], { encoding: 'utf8' });
    assert.equal(sent.status, 0, sent.stderr);
    const [fd = -1, ...others] = socket.receive('key') ?? [];
    assert.deepEqual(others, []);
    assert.equal(readFileSync(fd, 'utf8'), 'all of the disk');
    closeSync(fd);
  });

  test('gives nothing to another key, and keeps no stranger’s descriptor', () => {
    using socket = openDescriptorSocket();
    const before = openCount();
    assert.ok(leave(socket.name, 'strange'));
    assert.ok(leave(socket.name, 'k'.repeat(200)));
    assert.ok(leave(socket.name, 'right'));
    closeAll(socket.receive('right'));
    assert.equal(socket.receive('right'), undefined);
    assert.equal(openCount(), before);
  });

  test('takes two descriptors of one message, and keeps none of one that has more', () => {
    using socket = openDescriptorSocket();
    const before = openCount();
    assert.ok(leave(socket.name, 'strange', path, 2));
    assert.ok(leave(socket.name, 'right', path, 3));
    assert.ok(leave(socket.name, 'right', path, 2));
    const two = socket.receive('right') ?? [];
    assert.equal(two.length, 2);
    for (const fd of two) assert.equal(readlinkSync(`/proc/self/fd/${fd}`), path);
    closeAll(two);
    assert.equal(socket.receive('right'), undefined);
    assert.equal(openCount(), before);
  });

  test('that is not there takes nothing', () => {
    const socket = openDescriptorSocket();
    socket[Symbol.dispose]();
    assert.equal(leave(socket.name, 'key'), false);
  });
});

describe('a handover', () => {
  test('is of a regular file, of which each reader has its own position', async () => {
    using handover = openSocketHandover('key', PARTS);
    assert.ok(leave(handover.socket, 'key'));
    await using file = await handover.take();
    assert.equal(file.sizeBytes, 15);
    for (let i = 0; i < 2; i++) assert.equal(readFileSync(file.path, 'utf8'), 'all of the disk');
  });

  test('of a folder, of two files, or of nothing, is refused, and nothing stays open', async () => {
    const before = openCount();
    {
      using handover = openSocketHandover('key', PARTS);
      await assert.rejects(handover.take(), (thrown) => isFailure(thrown, 'source-not-found'));
      for (const [file, times] of [
        [folder, 1],
        [path, 2],
      ] as const) {
        assert.ok(leave(handover.socket, 'key', file, times));
        await assert.rejects(handover.take(), (thrown) => isFailure(thrown, 'source-unreadable'));
      }
    }
    assert.equal(openCount(), before);
  });

  test('of a file that somebody else answers for is refused, and closed', async () => {
    const before = openCount();
    {
      using handover = openSocketHandover('key', { ...PARTS, isAnsweredByKernel: () => false });
      for (const take of [() => handover.take(), () => handover.takeOutput('x.mender')]) {
        assert.ok(leave(handover.socket, 'key'));
        await assert.rejects(take(), (thrown) => isFailure(thrown, 'not-allowed'));
      }
    }
    // It is closed on another thread.
    for (const deadline = Date.now() + 10_000; openCount() > before && Date.now() < deadline; ) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.equal(openCount(), before);
  });
});
