import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  type FeedChunk,
  type FeedEntry,
  PlainChunks,
  type RestoreFeed,
} from '../../src/publish/index.ts';
import { testCodec } from '../fakes/memory-feed.ts';

/** The disk that a feed under test has to give: data, holes, several pages, an odd end. */
function diskForFeeds(): Buffer {
  const disk = Buffer.alloc(2_000_777);
  for (let at = 0; at < disk.length - 4; at += 1000) {
    if (Math.floor(at / 200_000) % 3 !== 1) disk.writeUInt32LE(at + 1, at);
  }
  return disk;
}

/** What every {@link RestoreFeed} promises. */
export function restoreFeedContract(
  name: string,
  open: (disk: Buffer) => Promise<RestoreFeed>,
): void {
  const disk = diskForFeeds();

  async function allEntries(feed: RestoreFeed): Promise<FeedEntry[]> {
    const pages = await Promise.all(feed.pages.map((_, index) => feed.page(index)));
    return pages.flat();
  }

  describe(`restore feed: ${name}`, () => {
    test('its pages follow one another and cover the disk', async () => {
      await using feed = await open(disk);
      assert.equal(feed.sizeBytes, disk.length);
      assert.ok(feed.pages.length > 1, 'the test needs several pages');
      let end = 0;
      for (const [index, page] of feed.pages.entries()) {
        assert.equal(page.plainStartBytes, end);
        const entries = await feed.page(index);
        end += entries.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
        assert.equal(page.plainBytes, end - page.plainStartBytes);
      }
      assert.equal(end, disk.length);
    });

    test('its chunks decode to the bytes of the disk, and holes are zeros', async () => {
      await using feed = await open(disk);
      const chunks = new PlainChunks(feed, testCodec);
      let at = 0;
      for (const entry of await allEntries(feed)) {
        const expected = disk.subarray(at, at + entry.lengthBytes);
        const [plain] = entry.kind === 'chunk' ? await chunks.read([entry]) : [];
        assert.ok((plain ?? Buffer.alloc(entry.lengthBytes)).equals(expected), `at byte ${at}`);
        at += entry.lengthBytes;
      }
    });

    test('chunks of several pages come in the order in which they were asked for', async () => {
      await using feed = await open(disk);
      const chunks = (await allEntries(feed)).filter((e): e is FeedChunk => e.kind === 'chunk');
      const asked = [chunks.at(-1), chunks[0], chunks[2], chunks[0]].filter((e) => e !== undefined);
      assert.equal(asked.length, 4);
      // Reading checks that each has the digest that was asked for.
      const plain = await new PlainChunks(feed, testCodec).read(asked);
      assert.deepEqual(
        plain.map(({ length }) => length),
        asked.map(({ lengthBytes }) => lengthBytes),
      );
    });

    test('a chunk that is not where it should be is missing', async () => {
      await using feed = await open(disk);
      const chunks = (await allEntries(feed)).filter((e): e is FeedChunk => e.kind === 'chunk');
      const [first, second] = chunks;
      assert.ok(first !== undefined && second !== undefined);
      await assert.rejects(feed.readCoded([{ ...first, entryIndex: second.entryIndex }]));
    });
  });
}
