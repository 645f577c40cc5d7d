import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { isFailure } from '../../base/index.ts';
import { openDescriptorSocket, sendDescriptor } from './descriptor-socket.ts';
import { openSocketHandover } from './socket-handover.ts';

const folder = mkdtempSync(join(tmpdir(), 'ingot-handover-'));
after(() => rmSync(folder, { recursive: true }));
const path = join(folder, 'disk.raw');
writeFileSync(path, 'all of the disk');

const openCount = (): number => readdirSync('/proc/self/fd').length;

/** Leaves a file there and closes the own descriptor, as a command that ends does. */
function leave(socket: string, key: string, file = path): boolean {
  const fd = openSync(file, 'r');
  try {
    return sendDescriptor(socket, key, fd);
  } finally {
    closeSync(fd);
  }
}

describe('a descriptor socket', () => {
  test('takes the file of another process, which may end before it is taken', () => {
    using socket = openDescriptorSocket();
    const source = join(import.meta.dirname, 'descriptor-socket.ts');
    const code = `import(${JSON.stringify(source)}).then(({ sendDescriptor }) => {
      const fd = require('node:fs').openSync(${JSON.stringify(path)}, 'r');
      process.exit(sendDescriptor(${JSON.stringify(socket.name)}, 'key', fd) ? 0 : 1);
    })`;
    const sent = spawnSync(process.execPath, ['-e', code], { encoding: 'utf8' });
    assert.equal(sent.status, 0, sent.stderr);
    const fd = socket.receive('key');
    assert.ok(fd !== undefined);
    assert.equal(readFileSync(fd, 'utf8'), 'all of the disk');
    closeSync(fd);
  });

  test('gives nothing to another key, and keeps no stranger’s descriptor', () => {
    using socket = openDescriptorSocket();
    const before = openCount();
    assert.ok(leave(socket.name, 'strange'));
    assert.ok(leave(socket.name, 'k'.repeat(200)));
    assert.ok(leave(socket.name, 'right'));
    const fd = socket.receive('right');
    assert.ok(fd !== undefined);
    closeSync(fd);
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
    using handover = openSocketHandover('key');
    assert.ok(leave(handover.socket, 'key'));
    await using file = await handover.take();
    assert.equal(file.sizeBytes, 15);
    for (let i = 0; i < 2; i++) assert.equal(readFileSync(file.path, 'utf8'), 'all of the disk');
  });

  test('of a folder, or of nothing, is refused, and nothing stays open', async () => {
    const before = openCount();
    {
      using handover = openSocketHandover('key');
      await assert.rejects(handover.take(), (thrown) => isFailure(thrown, 'source-not-found'));
      assert.ok(leave(handover.socket, 'key', folder));
      await assert.rejects(handover.take(), (thrown) => isFailure(thrown, 'source-unreadable'));
    }
    assert.equal(openCount(), before);
  });
});
