import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { MIB } from '../../src/base/index.ts';
import { eventually, type RunningCommand, startIngot } from './ingot-command.ts';
import { run } from './loop-filesystem.ts';

const SIZE_BYTES = 160 * MIB;
/** What must have been written before the command is killed. */
const BEGUN_BYTES = 16 * MIB;

const folder = mkdtempSync(join(tmpdir(), 'ingot-restore-'));
const env = { XDG_CONFIG_HOME: join(folder, 'config') };
const disk = join(folder, 'disk');

let daemon: RunningCommand;
let image = '';

/** Runs a command to its end. @returns its stdout */
async function ingot(...words: string[]): Promise<string> {
  const file = join(folder, 'stdout');
  const fd = openSync(file, 'w');
  const { status, stderr } = await startIngot(words, { env, stdout: fd }).ended;
  closeSync(fd);
  assert.equal(status, 0, stderr);
  return readFileSync(file, 'utf8');
}

/**
 * Kills `images write` in the middle: the daemon stands still meanwhile, so that it cannot end. On a
 * busy machine it may have ended before anybody looked; then it begins anew.
 *
 * @param clear takes back what it wrote
 */
async function killedWrite(target: string, writtenTo: string, clear: () => void): Promise<void> {
  for (let turn = 1; !(await isKilledInside(target, writtenTo)); turn += 1) {
    assert.ok(turn < 5, 'it had always ended before it was killed');
    clear();
  }
}

async function isKilledInside(target: string, writtenTo: string): Promise<boolean> {
  const command = startIngot(['images', 'write', '--yes', image, target], { env });
  await eventually('the beginning of the image on the target', () => {
    const stat = statSync(writtenTo, { throwIfNoEntry: false });
    if (command.child.exitCode !== null) return true;
    return stat !== undefined && stat.blocks * 512 > BEGUN_BYTES ? true : undefined;
  });
  daemon.child.kill('SIGSTOP');
  try {
    command.child.kill('SIGKILL');
    const { signal, status, stderr } = await command.ended;
    assert.ok(signal === 'SIGKILL' || status === 0, stderr);
    return signal === 'SIGKILL';
  } finally {
    daemon.child.kill('SIGCONT');
  }
}

describe('images write that is killed in the middle', () => {
  before(async () => {
    writeFileSync(disk, randomBytes(SIZE_BYTES));
    const words = ['serve', '--data', join(folder, 'library'), '--listen', '127.0.0.1:0'];
    daemon = startIngot(words, { env });
    let said = '';
    daemon.child.stderr?.on('data', (text: string) => {
      said += text;
    });
    await eventually('the daemon listening', () => (said.includes('listening') ? true : undefined));
    image = (await ingot('images', 'import', '--quiet', '--name', 'disk', disk)).trim();
  });
  after(async () => {
    daemon.child.kill('SIGTERM');
    await daemon.ended;
    rmSync(folder, { recursive: true, force: true });
  });

  test('goes on where it was on a block device', async () => {
    const backing = join(folder, 'backing');
    writeFileSync(backing, '');
    truncateSync(backing, SIZE_BYTES);
    const device = run('losetup', '--find', '--show', backing).trim();
    try {
      await killedWrite(device, backing, () => {
        run('blkdiscard', device);
      });
      // What the device was given may still be on its way to the file below it.
      run('blockdev', '--flushbufs', device);
      const report = JSON.parse(await ingot('images', 'write', '--yes', '--json', image, device));
      assert.ok(report.keptBytes >= BEGUN_BYTES / 2, `${report.keptBytes} bytes were kept`);
      assert.equal(report.verifiedBytes, SIZE_BYTES);
      run('cmp', disk, device);
    } finally {
      run('losetup', '--detach', device);
    }
  });

  test('leaves a part of a file that the next one uses, and no file', async () => {
    const target = join(folder, 'restored');
    const part = join(folder, '.restored.ingot-part');
    await killedWrite(target, part, () => {
      rmSync(target);
    });
    assert.equal(statSync(target, { throwIfNoEntry: false }), undefined);
    const report = JSON.parse(await ingot('images', 'write', '--json', image, target));
    assert.ok(report.keptBytes >= BEGUN_BYTES / 2, `${report.keptBytes} bytes were kept`);
    run('cmp', disk, target);
    assert.equal(statSync(part, { throwIfNoEntry: false }), undefined);
  });
});
