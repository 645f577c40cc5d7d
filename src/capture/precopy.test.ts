import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type MemoryDisk, MemorySnapshotSource } from '../../test/fakes/memory-snapshot-source.ts';
import { IngotError, KIB, noProgress, systemClock } from '../base/index.ts';
import { mergeExtents } from '../bytes/index.ts';
import { dumpSnapshot } from './dump.ts';
import type { DumpTarget, PositionedTarget, WriteWatch } from './dump-target.ts';

const BLOCK_BYTES = 64 * KIB;
const SIZE_BYTES = 10 * BLOCK_BYTES + 512;

/** A file or device in memory that counts what is done to it, and breaks where a test wants it to. */
class PositionedMemory implements DumpTarget, PositionedTarget {
  readonly isSparse = true;
  readonly roomBytes = undefined;
  readonly positioned = this;
  readonly isBlank: boolean;
  readonly calls: { readonly name: string; readonly offsetBytes: number }[] = [];
  image: Buffer;
  isCommitted = false;
  onCall: (count: number, name: string) => void = () => undefined;

  constructor({ isBlank = true } = {}) {
    this.isBlank = isBlank;
    this.image = Buffer.alloc(isBlank ? 0 : SIZE_BYTES, 0x77);
  }

  #call(name: string, offsetBytes = 0): void {
    this.calls.push({ name, offsetBytes });
    this.onCall(this.calls.length, name);
  }

  async begin(sizeBytes: number): Promise<void> {
    this.#call('begin');
    if (this.isBlank) this.image = Buffer.alloc(sizeBytes);
  }

  async writeAt(offsetBytes: number, bytes: Uint8Array, watch: WriteWatch): Promise<void> {
    watch.alive();
    this.#call('write', offsetBytes);
    this.image.set(bytes, offsetBytes);
    watch.wrote(bytes.length);
  }

  async zeroAt(offsetBytes: number, lengthBytes: number): Promise<void> {
    this.#call('zero', offsetBytes);
    this.image.fill(0, offsetBytes, offsetBytes + lengthBytes);
  }

  async sync(): Promise<void> {
    this.#call('sync');
  }

  write(): Promise<void> {
    throw new Error('bytes went in order');
  }

  skip(): Promise<void> {
    throw new Error('bytes went in order');
  }

  async taken(): Promise<void> {}

  async commit(): Promise<void> {
    this.#call('commit');
    this.isCommitted = true;
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}

/** What a disk holds: a byte for each sixteenth of a block that is allocated. */
interface Content {
  readonly offset: number;
  readonly length: number;
  readonly byte: number;
}

const UNIT_BYTES = BLOCK_BYTES / 16;

function diskOf(contents: readonly Content[]): MemoryDisk & { readonly plain: Buffer } {
  const bytes = Buffer.alloc(SIZE_BYTES, 0x55);
  const plain = Buffer.alloc(SIZE_BYTES);
  const extents = contents.map(({ offset, length, byte }) => {
    const offsetBytes = offset * UNIT_BYTES;
    const end = Math.min(offsetBytes + length * UNIT_BYTES, SIZE_BYTES);
    bytes.fill(byte, offsetBytes, end);
    return { offsetBytes, lengthBytes: end - offsetBytes };
  });
  for (const { offsetBytes, lengthBytes } of extents) {
    bytes.copy(plain, offsetBytes, offsetBytes, offsetBytes + lengthBytes);
  }
  return { bytes, extents: mergeExtents(extents), fileExtents: undefined, plain };
}

const contents = fc.array(
  fc.record({
    offset: fc.integer({ min: 0, max: Math.floor(SIZE_BYTES / UNIT_BYTES) }),
    length: fc.integer({ min: 1, max: 40 }),
    // Zero is a byte like others: allocated and empty.
    byte: fc.integer({ min: 0, max: 3 }),
  }),
  { maxLength: 6 },
);

function dump(source: MemorySnapshotSource, target: PositionedMemory, signal?: AbortSignal) {
  return dumpSnapshot({
    source,
    target,
    compressor: undefined,
    onProgress: noProgress,
    signal: signal ?? new AbortController().signal,
    clock: systemClock,
  });
}

describe('a copy in several passes', () => {
  test('holds the frozen state, whatever the live passes saw, on a file and on a device', async () => {
    await fc.assert(
      fc.asyncProperty(contents, contents, contents, fc.boolean(), async (a, b, c, isBlank) => {
        const states = [diskOf(a), diskOf(b), diskOf(c)];
        const frozen = diskOf(c);
        const source = new MemorySnapshotSource(diskOf(a), { mayChange: true });
        let reads = 0;
        source.onRead = (kind) => {
          reads += 1;
          // Files move and vanish under the live passes.
          source.disk = (kind === 'frozen' ? frozen : states[reads % 3]) ?? frozen;
        };
        source.onPass = (kind) => {
          source.disk = kind === 'frozen' ? frozen : source.disk;
        };
        const target = new PositionedMemory({ isBlank });
        await dump(source, target);
        assert.ok(target.image.equals(frozen.plain));
        assert.ok(target.isCommitted);
      }),
    );
  });

  test('writes while frozen only blocks that differ, and frees after the thaw', async () => {
    const before = diskOf([{ offset: 0, length: 128, byte: 1 }]);
    const after = diskOf([
      { offset: 0, length: 64, byte: 1 },
      { offset: 17, length: 1, byte: 2 },
    ]);
    const source = new MemorySnapshotSource(before, { mayChange: true });
    source.onPass = (kind) => {
      if (kind === 'frozen') source.disk = after;
    };
    const target = new PositionedMemory();
    const whileFrozen: string[] = [];
    target.onCall = (_count, name) => {
      const { offsetBytes = 0 } = target.calls.at(-1) ?? {};
      if (source.isFrozen) whileFrozen.push(`${name} ${offsetBytes}`);
    };
    await dump(source, target);
    assert.deepEqual(source.passes, ['live', 'live', 'frozen']);
    // All that was read is in memory by the last read, so even this write may come after the thaw.
    assert.ok(whileFrozen.length <= 1, whileFrozen.join(', '));
    const names = target.calls.map(({ name, offsetBytes }) => `${name} ${offsetBytes}`);
    assert.deepEqual(names.slice(-3), [
      `write ${BLOCK_BYTES}`,
      `zero ${4 * BLOCK_BYTES}`,
      'commit 0',
    ]);
    assert.ok(target.image.equals(after.plain));
  });

  test('goes on when the live source looks broken, and fails when the frozen one does', async () => {
    const disk = diskOf([{ offset: 3, length: 50, byte: 1 }]);
    for (const broken of ['live', 'frozen'] as const) {
      const source = new MemorySnapshotSource(disk, { mayChange: true });
      let passes = 0;
      source.onPass = () => {
        passes += 1;
      };
      source.onRead = (kind) => {
        if (kind === broken && passes > 1) throw new IngotError('source-unreadable', 'gone');
      };
      const target = new PositionedMemory();
      if (broken === 'live') {
        await dump(source, target);
        assert.ok(target.image.equals(disk.plain));
      } else {
        await assert.rejects(dump(source, target), { code: 'source-unreadable' });
        assert.equal(target.isCommitted, false);
      }
      assert.equal(source.isFrozen, false);
    }
  });

  test('fails, thaws and does not commit wherever its target breaks', async () => {
    const before = diskOf([{ offset: 0, length: 100, byte: 1 }]);
    const after = diskOf([{ offset: 30, length: 100, byte: 2 }]);
    for (let n = 1; ; n++) {
      const source = new MemorySnapshotSource(before, { mayChange: true });
      source.onPass = (kind) => {
        if (kind === 'frozen') source.disk = after;
      };
      const target = new PositionedMemory();
      target.onCall = (count) => {
        if (count === n) throw new IngotError('target-full', 'no space');
      };
      try {
        await dump(source, target);
        assert.ok(n > 5, `only ${n - 1} calls`);
        return;
      } catch (thrown) {
        if (thrown instanceof assert.AssertionError) throw thrown;
        assert.equal(source.isFrozen, false, `after a fault in call ${n}`);
        assert.equal(target.isCommitted, false);
      }
    }
  });

  test('ends with the reason of its signal, thawed, in any pass', async () => {
    const disk = diskOf([{ offset: 0, length: 160, byte: 1 }]);
    for (const pass of [2, 3]) {
      const source = new MemorySnapshotSource(disk, { mayChange: true });
      const abort = new AbortController();
      let passes = 0;
      source.onPass = () => {
        passes += 1;
      };
      source.onRead = () => {
        if (passes === pass) abort.abort(new Error('enough'));
      };
      const target = new PositionedMemory();
      await assert.rejects(dump(source, target, abort.signal), /enough/);
      assert.equal(source.isFrozen, false);
      assert.equal(target.isCommitted, false);
    }
  });
});
