import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { runCli } from '../../../../test/fakes/cli-run.ts';
import { startMemoryDaemon } from '../../../../test/fakes/memory-daemon.ts';
import { FAILURES } from '../../../base/index.ts';

const daemon = await startMemoryDaemon();
const { backend, env } = daemon;
const folder = mkdtempSync(join(tmpdir(), 'ingot-write-'));
after(async () => {
  rmSync(folder, { recursive: true });
  await daemon[Symbol.asyncDispose]();
});

const disk = Buffer.concat([
  Buffer.alloc(100_000, 'a'),
  Buffer.alloc(300_000),
  Buffer.alloc(77, 'z'),
]);

describe('ingot images write', () => {
  const image = backend.add(disk, { name: 'web' });

  test('writes a new file, and says so on stderr', async () => {
    const path = join(folder, 'new.raw');
    const { status, stdout, stderr } = await runCli(['images', 'write', image.id, path], env);
    assert.equal(status, 0, stderr);
    assert.ok(readFileSync(path).equals(disk));
    assert.equal(stdout, '');
    assert.match(stderr, /^Wrote img-\w+ to .*new.raw: .* every byte was read back in /);
  });

  test('--in-place --json reports how little was written', async () => {
    const path = join(folder, 'old.raw');
    const old = Buffer.from(disk);
    old.fill('!', 99_990, 99_999);
    writeFileSync(path, old);
    const { stdout } = await runCli(
      ['images', 'write', '--in-place', '--json', image.id, path],
      env,
    );
    const report = JSON.parse(stdout);
    assert.equal(report.image, image.id);
    assert.equal(report.writtenBytes, 64 * 1024, 'one chunk');
    assert.equal(report.verifiedBytes, disk.length);
    assert.ok(readFileSync(path).equals(disk));
  });

  test('--verify-only finds a changed byte, and changes nothing', async () => {
    const path = join(folder, 'changed.raw');
    const changed = Buffer.from(disk);
    changed[disk.length - 1] = 0;
    writeFileSync(path, changed);
    const { status, stderr } = await runCli(
      ['images', 'write', '--verify-only', image.id, path],
      env,
    );
    assert.equal(status, FAILURES['verify-failed'].exit);
    assert.match(stderr, /differs from img-\w+ in \d+ bytes, first at byte 393216/);
    assert.ok(readFileSync(path).equals(changed));
  });
});
