import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { bytesOf, ingest, segmentOf } from '../../../test/contracts/ingest-session.ts';
import { openTestLibrary, readDisk } from '../../../test/contracts/test-library.ts';
import { isFailure } from '../../base/index.ts';

describe('everything at once', () => {
  test('ingest, download, deletion, collection and verify do not harm each other', async () => {
    await using test = await openTestLibrary({ limits: { packBytes: 40_000 } });
    const { account, library } = test;
    const plans = new Map<string, Buffer>();
    const makers = [0, 1, 2].map(async (worker) => {
      for (let round = 0; round < 8; round++) {
        // Windows over the same chunks, so that what one deletes another needs.
        const from = (worker * 5 + round * 3) % 20;
        const plains = Array.from({ length: 16 }, (_, i) => bytesOf(from + i, 2500));
        const image = await ingest(account, `${worker}-${round}`, plains.map(segmentOf));
        plans.set(image.id, Buffer.concat(plains));
        if (round % 2 === 0) continue;
        plans.delete(image.id);
        await account.destroy(image.id);
      }
    });
    let isOver = false;
    const over = Promise.all(makers).finally(() => {
      isOver = true;
    });
    let reads = 0;
    const reading = (async () => {
      while (!isOver) {
        for (const { id } of await account.list()) {
          const plan = plans.get(id);
          try {
            const disk = await readDisk(account, id);
            if (plan !== undefined) assert.ok(disk.equals(plan), id);
            reads += 1;
          } catch (error) {
            // Deleted between the list and the read.
            if (!isFailure(error, 'image-not-found')) throw error;
          }
        }
      }
    })();
    let collections = 0;
    const collecting = (async () => {
      while (!isOver) {
        await library.collect({ isForced: true });
        collections += 1;
      }
    })();
    const verifying = (async () => {
      while (!isOver) assert.deepEqual((await library.verify()).corruptChunks, []);
    })();
    await Promise.all([over, reading, collecting, verifying]);
    assert.ok(reads > 0 && collections > 0, `${reads} reads, ${collections} collections`);
    for (const [id, plan] of plans) assert.ok((await readDisk(account, id)).equals(plan), id);
    assert.equal((await library.verify()).isClean, true);
    await library.collect({ isForced: true });
    const { condemnedBytes, packBytes } = await library.stats();
    assert.ok(condemnedBytes <= packBytes * 0.4, `${condemnedBytes} of ${packBytes} are condemned`);
  });
});
