import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { MemoryFeed, testCodec } from '../../../test/fakes/memory-feed.ts';
import { isFailure } from '../../base/index.ts';
import { PlainChunks } from '../restore/plain-chunks.ts';
import { FeedReader } from './feed-reader.ts';
import { formatName } from './file-name.ts';
import { parseImagePath } from './image-path.ts';
import { diffPackages, parsePackages } from './packages.ts';

describe('reading an image at any offset', () => {
  test('gives the bytes of the disk, whatever is asked for, in any order and at once', async () => {
    const disk = Buffer.alloc(200_001);
    for (let at = 0; at < disk.length; at++) {
      if (Math.floor(at / 20_000) % 3 !== 0) disk[at] = (at * 7) % 251;
    }
    const feed = new MemoryFeed(disk, { extentBytes: [9000, 777, 20_000], entriesPerPage: 3 });
    const reader = new FeedReader(feed, new PlainChunks(feed, testCodec));
    const range = fc.tuple(fc.nat({ max: disk.length }), fc.nat({ max: 50_000 }));
    await fc.assert(
      fc.asyncProperty(fc.array(range, { minLength: 1, maxLength: 6 }), async (ranges) => {
        await Promise.all(
          ranges.map(async ([offset, wanted]) => {
            const length = Math.min(wanted, disk.length - offset);
            const bytes = await reader.read(offset, length);
            assert.ok(bytes.equals(disk.subarray(offset, offset + length)));
            const names = await reader.names(offset, length);
            const named = names.reduce((sum, piece) => sum + piece.lengthBytes, 0);
            assert.equal(named, length);
          }),
        );
      }),
    );
  });

  test('keeps chunks that were read, and asks again for one that failed', async () => {
    const disk = Buffer.alloc(64 * 1024, 5);
    const feed = new MemoryFeed(disk);
    const reader = new FeedReader(feed, new PlainChunks(feed, testCodec));
    feed.beforeRead = () => {
      throw new Error('the line is dead');
    };
    await assert.rejects(reader.read(0, 10), /the line is dead/);
    feed.beforeRead = () => undefined;
    await reader.read(0, 10);
    await reader.read(60_000, 10);
    assert.equal(feed.asked.length, 1);
  });

  test('refuses what lies outside', async () => {
    const feed = new MemoryFeed(Buffer.alloc(1000, 1));
    const reader = new FeedReader(feed, new PlainChunks(feed, testCodec));
    for (const [offset, length] of [
      [0, 1001],
      [-1, 1],
      [999, 2],
    ] as const) {
      await assert.rejects(reader.read(offset, length), (thrown) =>
        isFailure(thrown, 'source-truncated'),
      );
    }
  });
});

describe('a name out of an image', () => {
  test('is shown on one line without anything that a terminal obeys', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        assert.doesNotMatch(
          formatName(Buffer.from(bytes)),
          /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/u,
        );
      }),
    );
  });

  test('is shown differently from every other name', () => {
    const names = fc.uint8Array({ minLength: 1, maxLength: 3 });
    fc.assert(
      fc.property(names, names, (a, b) => {
        const [textA, textB] = [formatName(Buffer.from(a)), formatName(Buffer.from(b))];
        assert.equal(textA === textB, Buffer.from(a).equals(Buffer.from(b)));
      }),
      { numRuns: 500 },
    );
  });

  test('stays readable where it can', () => {
    assert.equal(formatName(Buffer.from('Größe mit Leerzeichen.txt')), 'Größe mit Leerzeichen.txt');
    assert.equal(formatName(Buffer.from('a\u202eb')), 'a\\u{202e}b');
  });
});

describe('a path inside an image', () => {
  test('is an image, perhaps a partition, and an absolute path', () => {
    const cases: Record<string, ReturnType<typeof parseImagePath>> = {
      'img-y22uq': { image: 'img-y22uq', partition: undefined, path: '/' },
      'img-y22uq:': { image: 'img-y22uq', partition: undefined, path: '/' },
      'img-y22uq:2': { image: 'img-y22uq', partition: 2, path: '/' },
      'img-y22uq:2:': { image: 'img-y22uq', partition: 2, path: '/' },
      'img-y22uq:etc': { image: 'img-y22uq', partition: undefined, path: '/etc' },
      'img-y22uq:/2': { image: 'img-y22uq', partition: undefined, path: '/2' },
      'img-y22uq:12:/a:b': { image: 'img-y22uq', partition: 12, path: '/a:b' },
      'img-y22uq:/a:3:b': { image: 'img-y22uq', partition: undefined, path: '/a:3:b' },
    };
    for (const [text, expected] of Object.entries(cases)) {
      assert.deepEqual(parseImagePath(text), expected, text);
    }
    for (const wrong of ['', ':/etc']) {
      assert.throws(
        () => parseImagePath(wrong),
        (thrown) => isFailure(thrown, 'request-invalid'),
      );
    }
  });
});

describe('installed packages', () => {
  test('are those that dpkg calls installed, twice for two architectures', () => {
    const stanza = (name: string, status: string, architecture: string, version: string): string =>
      `Package: ${name}\nStatus: ${status}\nArchitecture: ${architecture}\nVersion: ${version}\n`;
    const text = [
      stanza('libc6', 'install ok installed', 'amd64', '2.36'),
      stanza('libc6', 'install ok installed', 'i386', '2.36'),
      stanza('half', 'install ok half-installed', 'amd64', '1'),
      stanza('held', 'hold ok installed', 'amd64', '3:4-5~6'),
    ].join('\n');
    assert.deepEqual(Object.fromEntries(parsePackages(text, 'dpkg')), {
      libc6: '2.36',
      'libc6:i386': '2.36',
      held: '3:4-5~6',
    });
  });

  test('of Alpine are read from its own list', () => {
    const text = 'C:Q1abc=\nP:musl\nV:1.2.4-r2\nA:x86_64\nF:lib\nR:x\n\nP:busybox\nV:1.36-r1\n\n';
    assert.deepEqual(Object.fromEntries(parsePackages(text, 'apk')), {
      musl: '1.2.4-r2',
      busybox: '1.36-r1',
    });
  });

  test('differ by version, or by being there', () => {
    const before = new Map([
      ['a', '1'],
      ['b', '1'],
      ['c', '1'],
    ]);
    const after = new Map([
      ['b', '1'],
      ['c', '2'],
      ['d', '1'],
    ]);
    assert.deepEqual(diffPackages(before, after), [
      { name: 'a', before: '1', after: undefined },
      { name: 'c', before: '1', after: '2' },
      { name: 'd', before: undefined, after: '1' },
    ]);
  });
});
