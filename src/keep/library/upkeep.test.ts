import assert from 'node:assert/strict';
import { readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import {
  bytesOf,
  descriptionOf,
  ingest,
  segmentOf,
} from '../../../test/contracts/ingest-session.ts';
import {
  openTestLibrary,
  readDisk,
  type TestLibrary,
} from '../../../test/contracts/test-library.ts';
import { IngotError, isFailure } from '../../base/index.ts';
import { DirectoryDisk } from '../adapters/directory-disk.ts';
import type { Disk } from '../chunks/disk.ts';

const LIMITS = { packBytes: 100_000, digestBytes: 0 };

function segments(from: number, count: number) {
  return Array.from({ length: count }, (_, i) => segmentOf(bytesOf(from + i, 4000)));
}

function filesIn(test: TestLibrary, folder: string): string[] {
  const entries = readdirSync(join(test.folder, folder), { recursive: true, withFileTypes: true });
  return entries
    .filter((e) => e.isFile())
    .map((e) => join(e.parentPath, e.name))
    .sort();
}

function flipByte(file: string, at: number): void {
  const bytes = readFileSync(file);
  const index = at < 0 ? bytes.length + at : at;
  bytes.writeUInt8(bytes.readUInt8(index) ^ 0x40, index);
  writeFileSync(file, bytes);
}

/** The data directory on a disk that cannot read one byte of each pack. */
function badSectorDisk(folder: string, badAt: number): Disk {
  const disk = new DirectoryDisk(folder);
  const open = disk.open.bind(disk);
  disk.open = async (path) => {
    const file = await open(path);
    if (file === undefined || !path.startsWith('packs/')) return file;
    return {
      sizeBytes: file.sizeBytes,
      append: (buffers) => file.append(buffers),
      datasync: () => file.datasync(),
      async read(offsetBytes, lengthBytes) {
        if (offsetBytes > badAt || offsetBytes + lengthBytes <= badAt) {
          return await file.read(offsetBytes, lengthBytes);
        }
        throw new IngotError('library-unusable', `reading ${path}`, { errno: 'EIO' });
      },
      [Symbol.asyncDispose]: () => file[Symbol.asyncDispose](),
    };
  };
  return disk;
}

describe('collection', () => {
  test('removes what only destroyed images had, and nothing else', async () => {
    await using test = await openTestLibrary({ limits: LIMITS });
    const one = await ingest(test.account, 'one', segments(0, 100));
    const two = await ingest(test.account, 'two', segments(90, 100));
    const disk = await readDisk(test.account, two.id);
    const before = await test.library.stats();
    await test.account.destroy(one.id);
    const report = await test.library.collect({ isForced: true });
    const after = await test.library.stats();
    assert.ok(report.removedPacks > 0 && report.rewrittenPacks > 0 && report.freedBytes > 0);
    assert.equal(after.chunks, 100);
    assert.equal(after.condemnedBytes, 0);
    assert.ok(after.packBytes < before.packBytes * 0.6);
    assert.equal(filesIn(test, 'packs').length, after.packs);
    assert.deepEqual(await readDisk(test.account, two.id), disk);
    assert.equal((await test.library.verify()).isClean, true);
    assert.deepEqual(await test.library.collect(), {
      removedPages: 0,
      condemnedChunks: 0,
      removedPacks: 0,
      rewrittenPacks: 0,
      freedBytes: 0,
    });
  });

  test('asks before it removes more than 30 %', async () => {
    await using test = await openTestLibrary({ limits: LIMITS });
    const one = await ingest(test.account, 'one', segments(0, 40));
    await ingest(test.account, 'two', segments(50, 60));
    await test.account.destroy(one.id);
    await assert.rejects(test.library.collect(), (error) => isFailure(error, 'not-allowed'));
    assert.equal((await test.library.stats()).chunks, 100);
    assert.equal((await test.library.collect({ isForced: true })).condemnedChunks, 40);
  });

  test('takes nothing from a running ingest, nor from an open download', async () => {
    await using test = await openTestLibrary({ limits: LIMITS });
    const chunks = segments(0, 60);
    const one = await ingest(test.account, 'one', chunks);
    const session = await test.account.begin(descriptionOf('two'));
    assert.deepEqual(await session.have([chunks[0]?.digest ?? segmentOf(Buffer.of(1)).digest]), [
      true,
    ]);
    {
      await using image = await test.account.open(one.id);
      await test.account.destroy(one.id);
      assert.equal((await test.library.collect({ isForced: true })).condemnedChunks, 0);
      const entries = await image.page(0);
      const coded = await image.readCoded(entries.filter((entry) => entry.kind === 'chunk'));
      assert.equal(coded.length, 60);
    }
    await test.reopen();
    assert.equal((await test.library.collect({ isForced: true })).condemnedChunks, 60);
    assert.deepEqual(filesIn(test, 'packs'), []);
    assert.deepEqual(filesIn(test, 'manifests/pages'), []);
  });

  test('an open download goes on while its packs are rewritten', async () => {
    await using test = await openTestLibrary({ limits: LIMITS });
    const one = await ingest(test.account, 'one', segments(0, 100));
    const keep = await ingest(
      test.account,
      'keep',
      segments(0, 100).filter((_, i) => i % 4 === 0),
    );
    await using image = await test.account.open(keep.id);
    const entries = (await image.page(0)).filter((entry) => entry.kind === 'chunk');
    await test.account.destroy(one.id);
    assert.ok((await test.library.collect({ isForced: true })).rewrittenPacks > 0);
    const coded = await image.readCoded(entries);
    assert.deepEqual(
      coded.map((bytes) => bytes.length),
      entries.map((entry) => entry.codedBytes),
    );
  });

  test('stops when a manifest belongs to no image', async () => {
    await using test = await openTestLibrary({ limits: LIMITS });
    await ingest(test.account, 'one', segments(0, 5));
    const stray = join(test.folder, 'manifests/images/img-zzzzz.manifest');
    writeFileSync(stray, 'the manifest of an image that a restored state does not know\n');
    await assert.rejects(test.library.collect({ isForced: true }), (error) =>
      isFailure(error, 'library-unusable'),
    );
  });

  test('stops when a manifest of an image is missing', async () => {
    await using test = await openTestLibrary({ limits: LIMITS });
    const { id } = await ingest(test.account, 'one', segments(0, 5));
    rmSync(join(test.folder, `manifests/images/${id}.manifest`));
    await assert.rejects(test.library.collect({ isForced: true }), (error) =>
      isFailure(error, 'library-unusable'),
    );
  });

  test('many small packs become few', async () => {
    await using test = await openTestLibrary({ limits: LIMITS });
    for (let i = 0; i < 20; i++) await ingest(test.account, `i${i}`, segments(i * 3, 3));
    assert.equal((await test.library.stats()).packs, 20);
    await test.library.collect();
    assert.ok((await test.library.stats()).packs < 4);
    assert.equal((await test.library.verify()).isClean, true);
  });
});

describe('verify', () => {
  /** Damages a file; returns what a verify of the whole library, and of the image, says then. */
  async function afterDamage(folder: string, damage: (file: string) => void) {
    await using test = await openTestLibrary({ limits: LIMITS });
    const chunks = segments(0, 60);
    const { id } = await ingest(test.account, 'one', chunks);
    assert.equal((await test.library.verify()).isClean, true);
    const file = filesIn(test, folder)[0] ?? '';
    await test.whileClosed(async () => damage(file));
    const whole = await test.library.verify();
    const single = await test.library.verify({ imageId: id });
    return { whole, single, id, test, chunks };
  }

  test('finds a flipped bit in a segment, names the image, and the chunk is never served', async () => {
    await using test = await openTestLibrary({ limits: LIMITS });
    const chunks = segments(0, 60);
    const { id } = await ingest(test.account, 'one', chunks);
    flipByte(filesIn(test, 'packs')[0] ?? '', 5000);
    const report = await test.library.verify();
    assert.equal(report.corruptChunks.length, 1);
    assert.deepEqual(report.damagedImages, [id]);
    await assert.rejects(readDisk(test.account, id), (error) => isFailure(error, 'chunk-corrupt'));
    // The next ingest that has the chunk heals it, and the image with it.
    const session = await test.account.begin(descriptionOf('two'));
    const digests = chunks.map((chunk) => chunk.digest);
    assert.equal((await session.have(digests)).filter((has) => !has).length, 1);
    await session.abort();
    await ingest(test.account, 'two', chunks);
    assert.equal((await test.library.verify()).isClean, true);
    assert.equal((await readDisk(test.account, id)).length, 240_000);
  });

  test('a flipped bit is found by the read itself', async () => {
    await using test = await openTestLibrary({ limits: LIMITS });
    const { id } = await ingest(test.account, 'one', segments(0, 60));
    flipByte(filesIn(test, 'packs')[0] ?? '', 5000);
    await assert.rejects(readDisk(test.account, id), (error) => isFailure(error, 'chunk-corrupt'));
    assert.equal((await test.library.stats()).quarantinedChunks, 1);
  });

  test('a chunk that only looked bad is good again after a verify', async () => {
    await using test = await openTestLibrary({ limits: LIMITS });
    const { id } = await ingest(test.account, 'one', segments(0, 60));
    const file = filesIn(test, 'packs')[0] ?? '';
    flipByte(file, 5000);
    await assert.rejects(readDisk(test.account, id), (error) => isFailure(error, 'chunk-corrupt'));
    flipByte(file, 5000);
    await assert.rejects(readDisk(test.account, id), (error) => isFailure(error, 'chunk-corrupt'));
    assert.equal((await test.library.verify({ imageId: id })).isClean, true);
    assert.equal((await readDisk(test.account, id)).length, 240_000);
  });

  test('a bad sector costs the chunk that lies on it, and nothing else', async () => {
    await using test = await openTestLibrary({ limits: LIMITS });
    const { id } = await ingest(test.account, 'one', segments(0, 60));
    await test.reopen({ disk: badSectorDisk(test.folder, 9000) });
    const report = await test.library.verify();
    const packs = (await test.library.stats()).packs;
    assert.equal(report.corruptChunks.length, packs);
    assert.deepEqual(report.damagedImages, [id]);
    await assert.rejects(readDisk(test.account, id), (error) => isFailure(error, 'chunk-corrupt'));
    await test.reopen({ disk: badSectorDisk(test.folder, -1) });
    assert.equal((await test.library.verify()).isClean, true);
  });

  const packDamage: Record<string, (file: string) => void> = {
    'a flipped bit in the index of a pack': (file) => flipByte(file, -100),
    'a flipped bit in the trailer of a pack': (file) => flipByte(file, -3),
    'a flipped bit in the header of a pack': (file) => flipByte(file, 20),
    'a truncated pack': (file) => truncateSync(file, 3000),
    'an empty pack': (file) => truncateSync(file, 0),
    'a zeroed pack': (file) => writeFileSync(file, Buffer.alloc(readFileSync(file).length)),
    'a missing pack': (file) => rmSync(file),
    'two packs in each other’s place': (file) => {
      const folder = join(file, '..');
      const [a = '', b = ''] = readdirSync(folder)
        .sort()
        .map((name) => join(folder, name));
      const [first, second] = [readFileSync(a), readFileSync(b)];
      writeFileSync(a, second);
      writeFileSync(b, first);
    },
  };
  for (const [what, damage] of Object.entries(packDamage)) {
    test(`finds ${what}`, async () => {
      const { whole } = await afterDamage('packs', damage);
      assert.equal(whole.isClean, false);
      assert.ok(whole.corruptPacks.length > 0);
    });
  }

  const manifestDamage: Record<string, [string, (file: string) => void]> = {
    'a flipped bit in a page': ['manifests/pages', (file) => flipByte(file, 50)],
    'a missing page': ['manifests/pages', (file) => rmSync(file)],
    'a flipped bit in a root': ['manifests/images', (file) => flipByte(file, 150)],
    'a flipped bit in a signature': ['manifests/images', (file) => flipByte(file, -20)],
    'a missing root': ['manifests/images', (file) => rmSync(file)],
  };
  for (const [what, [folder, damage]] of Object.entries(manifestDamage)) {
    test(`finds ${what}, for the library and for the image`, async () => {
      const { whole, single, id } = await afterDamage(folder, damage);
      assert.deepEqual(whole.damagedImages, [id]);
      assert.deepEqual(single.damagedImages, [id]);
    });
  }

  test('finds no damage in an image that is gone', async () => {
    await using test = await openTestLibrary({ limits: LIMITS });
    const { id } = await ingest(test.account, 'one', segments(0, 5));
    await test.account.destroy(id);
    assert.deepEqual((await test.library.verify({ imageId: id })).damage, []);
  });

  test('goes on where it stopped', async () => {
    await using test = await openTestLibrary({ limits: LIMITS });
    await ingest(test.account, 'one', segments(0, 100));
    const stop = new AbortController();
    let checkpoint = '';
    const keep = async (text: string): Promise<void> => {
      checkpoint = text;
      stop.abort();
    };
    await assert.rejects(test.library.verify({ keep, signal: stop.signal }));
    let packsRead = 0;
    const report = await test.library.verify({
      checkpoint,
      keep: async (text) => {
        if (text.includes('"packs"')) packsRead += 1;
      },
    });
    assert.equal(report.checkedChunks, 100);
    assert.equal(packsRead, (await test.library.stats()).packs - 1);
  });
});

describe('rebuild', () => {
  test('the index comes back from packs and manifests when it is lost', async () => {
    await using test = await openTestLibrary({ limits: LIMITS });
    const { id } = await ingest(test.account, 'one', [...segments(0, 60), 4096]);
    const [disk, stats] = [await readDisk(test.account, id), await test.library.stats()];
    await test.whileClosed(async (folder) => {
      for (const name of ['index.db', 'index.db-wal', 'index.db-shm']) {
        rmSync(join(folder, name), { force: true });
      }
    });
    assert.deepEqual(await readDisk(test.account, id), disk);
    assert.deepEqual(await test.library.stats(), stats);
    assert.equal((await test.library.verify()).isClean, true);
  });

  test('images come back from manifests and records when the state is lost, deleted ones do not', async () => {
    await using test = await openTestLibrary({ limits: LIMITS });
    const kept = await ingest(test.account, 'one', segments(0, 30));
    await test.account.update(kept.id, { name: 'renamed', isLocked: true });
    const gone = await ingest(test.account, 'two', segments(20, 30));
    await test.account.destroy(gone.id);
    const before = await test.account.show(kept.id);
    await test.whileClosed(async (folder) => {
      for (const name of readdirSync(folder).filter((name) => /\.db/.test(name))) {
        rmSync(join(folder, name));
      }
    });
    assert.deepEqual(await test.account.show(kept.id), before);
    assert.deepEqual(
      (await test.account.list()).map((image) => image.name),
      ['renamed'],
    );
    assert.equal((await test.library.verify()).isClean, true);
    await test.library.collect({ isForced: true });
    assert.equal((await readDisk(test.account, kept.id)).length, 120_000);
  });

  test('an index that is no database is refused until it is removed', async () => {
    await using test = await openTestLibrary({ limits: LIMITS });
    const { id } = await ingest(test.account, 'one', segments(0, 10));
    await assert.rejects(
      test.whileClosed(async (folder) => {
        for (const name of readdirSync(folder).filter((name) => /^index\.db-/.test(name))) {
          rmSync(join(folder, name));
        }
        writeFileSync(join(folder, 'index.db'), Buffer.alloc(8192, 'rot'));
      }),
      (error) => isFailure(error, 'library-unusable'),
    );
    await test.reopen({ isRebuild: true });
    assert.equal((await readDisk(test.account, id)).length, 40_000);
  });
});

describe('a backup', () => {
  test('of the state is a whole state', async () => {
    await using test = await openTestLibrary({ limits: LIMITS });
    const { id } = await ingest(test.account, 'one', segments(0, 10));
    const path = await test.library.backup();
    await test.whileClosed(async (folder) => {
      for (const name of readdirSync(folder).filter((name) => /^state\.db/.test(name))) {
        rmSync(join(folder, name));
      }
      writeFileSync(join(folder, 'state.db'), readFileSync(join(folder, path)));
    });
    assert.equal((await readDisk(test.account, id)).length, 40_000);
  });
});
