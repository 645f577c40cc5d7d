import assert from 'node:assert/strict';
import { createCipheriv, createHash, randomBytes } from 'node:crypto';
import { tmpdir } from 'node:os';
import { describe, test } from 'node:test';
import { MemoryIngestTarget } from '../../../test/contracts/memory-ingest-target.ts';
import {
  type MemoryDisk,
  MemorySnapshotSource,
} from '../../../test/fakes/memory-snapshot-source.ts';
import { type Clock, IngotError, isFailure, KIB, MIB, noProgress } from '../../base/index.ts';
import { fileSpools } from '../adapters/file-spool.ts';
import { openChunkWorkers } from '../adapters/thread-chunk-workers.ts';
import { zlibSegmentCodec } from '../adapters/zlib-segment-codec.ts';
import { type IngestOptions, ingestSnapshot } from './ingest-snapshot.ts';
import type { OpenSpool, Spool } from './spool.ts';

const DESCRIPTION = {
  name: 'a disk',
  description: '',
  kind: 'snapshot',
  arch: 'x86_64',
  ancestorId: undefined,
  compatibilityMode: false,
} as const;

function noise(name: string, lengthBytes: number): Buffer {
  const key = createHash('md5').update(name).digest();
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(lengthBytes));
}

/** A clock that stands still unless a test moves it. */
class StillClock implements Clock {
  ms = 0;
  now(): number {
    return this.ms;
  }
  monotonic(): number {
    return this.ms;
  }
  async sleep(): Promise<void> {
    throw new Error('nothing here waits');
  }
}

/** 9 MiB: files and free space full of garbage, text and noise. */
function makeDisk(name = 'disk'): MemoryDisk {
  const bytes = noise(`${name} garbage`, 9 * MIB);
  const extents = [
    { offsetBytes: 0, lengthBytes: 3 * MIB + 4 * KIB },
    { offsetBytes: 3 * MIB + 8 * KIB, lengthBytes: 100 * KIB },
    { offsetBytes: 5 * MIB, lengthBytes: 4 * MIB },
  ];
  Buffer.alloc(MIB, 'some text that comes again ').copy(bytes, 0);
  bytes.fill(0, 6 * MIB, 7 * MIB);
  return { bytes, extents, fileExtents: undefined };
}

/** What an image of the disk must hold: free space is zero. */
function snapshotOf({ bytes, extents }: MemoryDisk): Buffer {
  const kept = Buffer.alloc(bytes.byteLength);
  for (const { offsetBytes, lengthBytes } of extents) {
    bytes.copy(kept, offsetBytes, offsetBytes, offsetBytes + lengthBytes);
  }
  return kept;
}

const workers = openChunkWorkers('zlib-2');

const noSpool: OpenSpool = async () => {
  throw new Error('nothing here needs a spool');
};

function setUp(
  disk: MemoryDisk,
  mayChange: boolean,
): { source: MemorySnapshotSource; target: MemoryIngestTarget; options: IngestOptions } {
  const source = new MemorySnapshotSource(disk, { mayChange });
  const target = new MemoryIngestTarget(zlibSegmentCodec);
  const options: IngestOptions = {
    source,
    target,
    workers,
    description: DESCRIPTION,
    onProgress: noProgress,
    signal: new AbortController().signal,
    openSpool: noSpool,
    clock: new StillClock(),
  };
  return { source, target, options };
}

/** The image that came of it, and that it came alone. */
function onlyImage(target: MemoryIngestTarget): Buffer {
  const [image, ...others] = target.images;
  assert.ok(image !== undefined && others.length === 0);
  assert.equal(target.openSessions, 0);
  return target.plainOf(image);
}

describe('ingesting a source that does not change', () => {
  test('makes an image of its extents; everything else is zero', async () => {
    const disk = makeDisk();
    const { source, target, options } = setUp(disk, false);
    const image = await ingestSnapshot(options);
    assert.ok(onlyImage(target).equals(snapshotOf(disk)));
    assert.equal(image.virtualSizeBytes, disk.bytes.byteLength);
    assert.deepEqual(source.passes, ['frozen']);
    assert.equal(target.images[0]?.summary.chunkRule, 'content-4k-1');
    assert.equal(target.images[0]?.summary.plainDigest, undefined);
  });

  test('puts chunks in the order in which they lie on the disk, each once', async () => {
    const { target, options } = setUp(makeDisk(), false);
    await ingestSnapshot(options);
    const inOrder = new Set(
      target.images[0]?.entries.flatMap((entry) => (entry.kind === 'chunk' ? [entry.digest] : [])),
    );
    assert.deepEqual(target.putOrder, [...inOrder]);
  });

  test('puts nothing that the library has', async () => {
    const disk = makeDisk();
    const { target, options } = setUp(disk, false);
    await ingestSnapshot(options);
    const puts = target.putOrder.length;
    disk.bytes.fill('!', 8 * MIB, 8 * MIB + 5 * KIB);
    await ingestSnapshot({
      ...options,
      source: new MemorySnapshotSource(disk, { mayChange: false }),
    });
    const [, second] = target.images;
    assert.ok(second !== undefined && target.plainOf(second).equals(snapshotOf(disk)));
    assert.ok(target.putOrder.length - puts <= 3, `${target.putOrder.length - puts} new chunks`);
  });

  test('an empty disk is one hole', async () => {
    const disk = { bytes: Buffer.alloc(MIB), extents: [], fileExtents: undefined };
    const { target, options } = setUp(disk, false);
    await ingestSnapshot(options);
    assert.deepEqual(target.images[0]?.entries, [{ kind: 'hole', lengthBytes: MIB }]);
  });

  test('says what the read met, though the source changed as well', async () => {
    const { source, target, options } = setUp(makeDisk(), false);
    source.onRead = () => {
      throw new IngotError('source-truncated', 'the file became shorter');
    };
    const changed: IngestOptions['source'] = {
      sizeBytes: source.sizeBytes,
      mayChange: false,
      facts: () => source.facts(),
      notices: () => [],
      [Symbol.asyncDispose]: () => Promise.resolve(),
      pass: async (kind) => ({
        ...(await source.pass(kind)),
        end: () => Promise.reject(new IngotError('source-unreadable', 'the file changed')),
      }),
    };
    await assert.rejects(ingestSnapshot({ ...options, source: changed }), (thrown) =>
      isFailure(thrown, 'source-truncated'),
    );
    source.onRead = () => undefined;
    source.isFrozen = false;
    await assert.rejects(ingestSnapshot({ ...options, source: changed }), (thrown) =>
      isFailure(thrown, 'source-unreadable'),
    );
    assert.equal(target.images.length, 0);
  });

  test('tells how far it is', async () => {
    const { options } = setUp(makeDisk(), false);
    const done: number[] = [];
    const onProgress: IngestOptions['onProgress'] = ({ doneBytes, stage }) => {
      if (stage === 'reading the source') done.push(doneBytes);
    };
    await ingestSnapshot({ ...options, onProgress });
    assert.equal(done.at(-1), 7 * MIB + 104 * KIB);
    assert.deepEqual(
      done,
      done.toSorted((a, b) => a - b),
    );
  });
});

describe('ingesting a source that changes', () => {
  test('shows the frozen instant, whatever changed during the live passes', async () => {
    const disk = makeDisk();
    const { source, target, options } = setUp(disk, true);
    source.onRead = (kind) => {
      if (kind === 'live') randomBytes(3000).copy(disk.bytes, Math.random() * 8 * MIB);
    };
    await ingestSnapshot(options);
    assert.ok(onlyImage(target).equals(snapshotOf(disk)));
    assert.deepEqual(source.passes, ['live', 'frozen']);
    assert.equal(target.images[0]?.summary.capture.freezeMs, 7);
  });

  test('follows files that move, appear and go between the passes', async () => {
    const disk = makeDisk();
    const { source, target, options } = setUp(disk, true);
    source.onPass = (kind) => {
      if (kind === 'live') return;
      source.disk = { ...makeDisk('another'), extents: [{ offsetBytes: MIB, lengthBytes: MIB }] };
    };
    await ingestSnapshot(options);
    assert.ok(onlyImage(target).equals(snapshotOf(source.disk)));
  });

  test('hashes while the source is frozen only what changed', async () => {
    const disk = makeDisk();
    const { source, target, options } = setUp(disk, true);
    source.onPass = (kind) => {
      if (kind === 'frozen') disk.bytes[5 * MIB + 7] = (disk.bytes[5 * MIB + 7] ?? 0) ^ 1;
    };
    let hashedBytes = 0;
    const counting: IngestOptions['workers'] = {
      lend: (lengthBytes) => workers.lend(lengthBytes),
      digests: (bytes, spans) => {
        if (source.isFrozen) {
          hashedBytes = spans.reduce((sum, { lengthBytes }) => sum + lengthBytes, hashedBytes);
        }
        return workers.digests(bytes, spans);
      },
      encode: (...args) => workers.encode(...args),
      check: (segments) => workers.check(segments),
      decode: (room, segments) => workers.decode(room, segments),
      [Symbol.asyncDispose]: async () => undefined,
    };
    await ingestSnapshot({ ...options, workers: counting });
    assert.ok(onlyImage(target).equals(snapshotOf(disk)));
    assert.ok(hashedBytes > 0 && hashedBytes <= 512 * KIB, `${hashedBytes} bytes were hashed`);
  });

  test('talks to the library only while the source is not frozen', async () => {
    const disk = makeDisk();
    const { source, target, options } = setUp(disk, true);
    source.onPass = (kind) => {
      if (kind === 'frozen') noise('changed', 2 * MIB).copy(disk.bytes, 5 * MIB);
    };
    const whileFrozen: string[] = [];
    target.onCall = (call) => {
      if (source.isFrozen) whileFrozen.push(call);
    };
    await ingestSnapshot(options);
    assert.deepEqual(whileFrozen, []);
    assert.ok(onlyImage(target).equals(snapshotOf(disk)));
  });

  test('says nothing while the source is frozen: its words may end there', async () => {
    const { source, target, options } = setUp(makeDisk(), true);
    const stages = new Set<string>();
    const onProgress: IngestOptions['onProgress'] = ({ stage }) => {
      assert.ok(!source.isFrozen, stage);
      stages.add(stage);
    };
    await ingestSnapshot({ ...options, onProgress });
    assert.ok(stages.has('reading the frozen source'), 'it is told before');
    assert.equal(target.images.length, 1);
  });

  test('reads live again while much changes, three times at most', async () => {
    const { source, target, options } = setUp(makeDisk(), true);
    const clock = options.clock as StillClock;
    source.onPass = (_, count) => {
      clock.ms += 20_000;
      source.disk = makeDisk(`state ${count}`);
    };
    source.onRead = () => {
      clock.ms += 10_000;
    };
    await ingestSnapshot(options);
    // Less than 64 MiB changed during the second pass.
    assert.deepEqual(source.passes, ['live', 'live', 'frozen']);
    assert.ok(onlyImage(target).equals(snapshotOf(source.disk)));
  });

  test('a live pass that meets a changing filesystem is given up, the frozen one is not', async () => {
    const disk = makeDisk();
    const { source, target, options } = setUp(disk, true);
    let reads = 0;
    source.onRead = (kind) => {
      reads += 1;
      if (kind === 'live' && reads === 3) throw new IngotError('source-truncated', 'it shrank');
    };
    await ingestSnapshot(options);
    assert.ok(onlyImage(target).equals(snapshotOf(disk)));
    source.passes.length = 0;
    source.onRead = (kind) => {
      if (kind === 'frozen') throw new IngotError('source-unreadable', 'an I/O error');
    };
    await assert.rejects(ingestSnapshot(options), (thrown) =>
      isFailure(thrown, 'source-unreadable'),
    );
    assert.equal(source.isFrozen, false);
    assert.equal(target.openSessions, 0);
  });

  test('spools what changed too much for memory, and closes the spool', async () => {
    const bytes = noise('a large disk', 100 * MIB);
    const disk = {
      bytes,
      extents: [{ offsetBytes: 0, lengthBytes: bytes.byteLength }],
      fileExtents: undefined,
    };
    const { source, target, options } = setUp(disk, true);
    let spooledBytes = 0;
    let openSpools = 0;
    const open = fileSpools(tmpdir());
    const openSpool: OpenSpool = async () => {
      const spool = await open();
      openSpools += 1;
      const watched: Spool = {
        append: async (part) => {
          spooledBytes += part.byteLength;
          await spool.append(part);
        },
        read: (offset, length) => spool.read(offset, length),
        [Symbol.asyncDispose]: async () => {
          openSpools -= 1;
          await spool[Symbol.asyncDispose]();
        },
      };
      return watched;
    };
    // The live pass sees nothing of it, so all is new to the frozen one.
    source.onPass = (kind) => {
      source.disk = kind === 'live' ? { ...disk, extents: [] } : disk;
    };
    await ingestSnapshot({ ...options, openSpool });
    assert.ok(onlyImage(target).equals(bytes));
    assert.ok(spooledBytes >= 60 * MIB, String(spooledBytes));
    assert.equal(openSpools, 0);
  });
});

describe('an ingest that ends early', () => {
  for (const mayChange of [false, true]) {
    const kind = mayChange ? 'changing' : 'still';
    test(`wherever the library fails, a ${kind} source is left thawed and the session aborted`, async () => {
      for (let n = 1; ; n++) {
        const { source, target, options } = setUp(makeDisk(), mayChange);
        let calls = 0;
        const cause = new IngotError('library-full', 'no space left');
        target.onCall = () => {
          calls += 1;
          if (calls === n) throw cause;
        };
        const isDone = await ingestSnapshot(options).then(
          () => true,
          (thrown: unknown) => {
            assert.equal(thrown, cause);
            return false;
          },
        );
        assert.equal(source.isFrozen, false);
        assert.equal(source.readsUnderWay, 0);
        assert.equal(target.openSessions, 0);
        assert.equal(target.images.length, isDone ? 1 : 0);
        if (isDone) {
          assert.ok(n > 3, `${n} calls`);
          return;
        }
      }
    });

    test(`wherever it is cancelled, a ${kind} source is left thawed and the session aborted`, async () => {
      for (let n = 1; ; n++) {
        const { source, target, options } = setUp(makeDisk(), mayChange);
        const controller = new AbortController();
        const reason = new Error('the user pressed Ctrl-C');
        let reads = 0;
        source.onRead = () => {
          reads += 1;
          if (reads === n) controller.abort(reason);
        };
        const isDone = await ingestSnapshot({ ...options, signal: controller.signal }).then(
          () => true,
          (thrown: unknown) => {
            assert.equal(thrown, reason);
            return false;
          },
        );
        assert.equal(source.isFrozen, false);
        assert.equal(source.readsUnderWay, 0);
        assert.equal(target.openSessions, 0);
        assert.equal(target.images.length, isDone ? 1 : 0);
        if (isDone) {
          assert.ok(n > 3, `${n} reads`);
          return;
        }
      }
    });
  }
});
