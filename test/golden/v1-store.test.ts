import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { DirectoryLibrary } from '../../src/keep/index.ts';
import { ACCOUNT, partsIn, readDisk } from '../contracts/test-library.ts';

/** A library as version 0.1.0 wrote it: one image, and a deleted one. It is never written again. */
const STORE = join(import.meta.dirname, 'v1-store');
const RESTORE = join(import.meta.dirname, '../../docs/restore-image.py');
const IMAGE = 'img-to8sd';
const DELETED = 'img-0sd5w';
const DIGEST = 'ea071ad8ac2444d067dcca7e679495952246c85347fb590f8a2b34ac3d91370e';

async function withCopy(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'ingot-golden-'));
  try {
    cpSync(STORE, folder, { recursive: true });
    await work(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

async function checkLibrary(folder: string): Promise<void> {
  await using library = await DirectoryLibrary.open(partsIn(folder));
  const account = library.forAccount(ACCOUNT);
  const images = await account.list();
  assert.deepEqual(images.map(({ id }) => id), [IMAGE]);
  const [image] = images;
  assert.equal(image?.description, 'the first of its format');
  assert.deepEqual([image?.isPublic, image?.isLocked, image?.plainDigest], [true, true, DIGEST]);
  assert.equal(sha256(await readDisk(account, IMAGE)), DIGEST);
  assert.equal((await library.verify()).isClean, true);
  await library.collect({ isForced: true });
  assert.equal(sha256(await readDisk(account, IMAGE)), DIGEST);
}

describe('a library of format version 1', () => {
  test('opens, verifies, and gives its image back', async () => {
    await withCopy(checkLibrary);
  });

  test('comes back from packs and manifests alone, without its deleted image', async () => {
    await withCopy(async (folder) => {
      for (const name of ['index.db', 'state.db']) rmSync(join(folder, name));
      await checkLibrary(folder);
      const record = readFileSync(join(folder, `manifests/images/${DELETED}.record.json`), 'utf8');
      assert.equal(JSON.parse(record).status, 'deleted');
    });
  });
});

describe('the restore script', { skip: !hasPython() && 'python3 is not installed' }, () => {
  test('restores an image from the directory alone', async () => {
    await withCopy(async (folder) => {
      for (const name of ['index.db', 'state.db', 'keys']) rmSync(join(folder, name), { recursive: true });
      const output = join(folder, 'disk.raw');
      execFileSync('python3', [RESTORE, folder, IMAGE, output]);
      assert.equal(sha256(readFileSync(output)), DIGEST);
    });
  });

  test('refuses a damaged chunk, a damaged page and an image that is not there', async () => {
    await withCopy(async (folder) => {
      const restore = (id: string) =>
        spawnSync('python3', [RESTORE, folder, id, join(folder, `${Math.random()}.raw`)]);
      assert.notEqual(restore(DELETED).status, 0);
      const pack = join(folder, 'packs/901faef28c9d1e32daf6fa2a9340f63c.pack');
      const bytes = readFileSync(pack);
      bytes[4000] = (bytes[4000] ?? 0) ^ 1;
      writeFileSync(pack, bytes);
      assert.notEqual(restore(IMAGE).status, 0);
    });
  });
});

function hasPython(): boolean {
  return spawnSync('python3', ['--version']).status === 0;
}
