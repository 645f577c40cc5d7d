import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isFailure } from '../../src/base/index.ts';
import { type Disk, readWhole, writeWhole } from '../../src/keep/chunks/disk.ts';

const text = (words: string): Buffer => Buffer.from(words);
const isUnusable = (thrown: unknown): boolean => isFailure(thrown, 'library-unusable');

/**
 * What every {@link Disk} promises, but for power cuts: those are walked through in `test/faults`.
 *
 * @param work runs with an empty disk
 */
export function diskContract(
  name: string,
  withDisk: (work: (disk: Disk) => Promise<void>) => Promise<void>,
): void {
  const check = (what: string, work: (disk: Disk) => Promise<void>): void => {
    test(what, () => withDisk(work));
  };

  describe(`a disk: ${name}`, () => {
    check('keeps what was appended, in its order, and reads any part of it', async (disk) => {
      await using file = await disk.create('one');
      await file.append([text('in '), text(''), text('its ')]);
      await file.append([text('order')]);
      await file.datasync();
      assert.equal(file.sizeBytes, 12);
      assert.equal(await disk.sizeOf('one'), 12);
      await using again = await disk.open('one');
      assert.ok(again !== undefined);
      assert.equal(String(await again.read(3, 3)), 'its');
      assert.equal(String(await again.read(7, 100)), 'order');
      assert.equal((await again.read(100, 5)).byteLength, 0);
      const memory = Buffer.alloc(20);
      const read = await again.read(0, 6, memory);
      assert.equal(String(read), 'in its');
    });

    check('makes a file once', async (disk) => {
      await using _file = await disk.create('one');
      await assert.rejects(disk.create('one'), isUnusable);
    });

    check('says of what is not there that it is not', async (disk) => {
      assert.equal(await disk.open('none'), undefined);
      assert.equal(await disk.sizeOf('none'), undefined);
      await disk.remove('none');
      await assert.rejects(disk.list('none'), isUnusable);
      await assert.rejects(disk.rename('none', 'other'), isUnusable);
    });

    check('lists the names of a folder, ascending', async (disk) => {
      await disk.makeFolder('folder');
      await disk.makeFolder('folder');
      for (const one of ['folder/b', 'folder/a', 'folder/c']) {
        await using _file = await disk.create(one);
      }
      await disk.syncFolder('folder');
      assert.deepEqual(await disk.list('folder'), ['a', 'b', 'c']);
      assert.ok((await disk.list('.')).includes('folder'));
    });

    check('replaces the target of a rename, also across folders', async (disk) => {
      await disk.makeFolder('folder');
      await writeWhole(disk, 'one', text('old'));
      await writeWhole(disk, 'folder/two', text('new'));
      await disk.rename('folder/two', 'one');
      assert.equal(String(await readWhole(disk, 'one', 100)), 'new');
      assert.deepEqual(await disk.list('folder'), []);
    });

    check('reads an open file that was removed or replaced as it was', async (disk) => {
      for (const goes of [() => disk.remove('one'), () => writeWhole(disk, 'one', text('other'))]) {
        await disk.remove('one');
        await writeWhole(disk, 'one', text('first'));
        await using file = await disk.open('one');
        await goes();
        assert.equal(String(await file?.read(0, 100)), 'first');
      }
    });

    check('tells how much can still be written', async (disk) => {
      assert.ok((await disk.freeBytes()) > 0);
    });

    check('may have its files closed twice', async (disk) => {
      const file = await disk.create('one');
      await file[Symbol.asyncDispose]();
      await file[Symbol.asyncDispose]();
    });
  });
}
