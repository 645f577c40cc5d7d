import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { type Id, isFailure } from '../../src/base/index.ts';
import { DirectoryUploadSpool } from '../../src/keep/adapters/directory-upload-spool.ts';
import { bytesOf } from '../contracts/ingest-session.ts';
import { POWERED_KINDS, PoweredFilesystem, skipWithout } from './powered-filesystem.ts';

const IMAGE: Id<'img'> = 'img-aaaaa';
const WRONG = bytesOf(1, 300_000);
const RIGHT = bytesOf(2, 50_000);

async function received(spool: DirectoryUploadSpool): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of spool.read(IMAGE)) pieces.push(piece);
  return Buffer.concat(pieces);
}

for (const [name, { mkfs, sizeBytes }] of Object.entries(POWERED_KINDS)) {
  describe(`uploads under ${name} when the power goes`, {
    skip: skipWithout('xfs_io', mkfs[0]),
  }, () => {
    test('stay without what was taken back of them', async () => {
      await using disk = new PoweredFilesystem(mkfs, sizeBytes);
      const spool = new DirectoryUploadSpool(join(disk.mountPoint, 'uploads'));
      await spool.make(IMAGE);
      {
        await using file = await spool.append(IMAGE);
        await file.append(WRONG);
        await file.datasync();
      }
      await spool.truncate(IMAGE, 100_000);
      disk.cutPower();
      disk.unmount();
      disk.mount();
      assert.equal(await spool.sizeOf(IMAGE), 100_000);
      {
        // An upload that goes on behind it has none of the bytes that were there.
        await using file = await spool.append(IMAGE);
        await file.append(RIGHT);
        await file.datasync();
      }
      disk.cutPower();
      disk.unmount();
      disk.mount();
      const whole = Buffer.concat([WRONG.subarray(0, 100_000), RIGHT]);
      assert.ok((await received(spool)).equals(whole));
    });
  });
}

describe('the uploads of a data directory', () => {
  test('are swept although one of them cannot be removed', async () => {
    await using undo = new AsyncDisposableStack();
    const folder = mkdtempSync(join(tmpdir(), 'ingot-uploads-'));
    undo.defer(() => rmSync(folder, { recursive: true }));
    // Enough that some come behind it, in whatever order the folder has them.
    const others = Array.from({ length: 8 }, (_, n) => `img-ddd${n}0`);
    for (const id of ['img-bbbbb', 'img-ccccc', ...others]) {
      mkdirSync(join(folder, id));
      writeFileSync(join(folder, id, 'received'), 'bytes');
    }
    const busy = join(folder, 'img-ccccc');
    execFileSync('mount', ['-t', 'tmpfs', 'ingot-uploads', busy]);
    undo.defer(() => void execFileSync('umount', [busy]));
    const spool = new DirectoryUploadSpool(folder);
    await assert.rejects(
      spool.sweep(new Set<Id<'img'>>(['img-bbbbb'])),
      (thrown) => isFailure(thrown, 'library-unusable') && /EBUSY/.test(thrown.message),
    );
    assert.ok(existsSync(join(folder, 'img-bbbbb', 'received')));
    assert.ok(existsSync(busy));
    const left = others.filter((id) => existsSync(join(folder, id)));
    assert.deepEqual(left, []);
  });
});
