import assert from 'node:assert/strict';
import { IngotError } from '../../src/base/index.ts';
import type { Extent, FileExtents } from '../../src/bytes/index.ts';
import type { CaptureFacts, SnapshotPass, SnapshotSource } from '../../src/capture/index.ts';

/** What a memory source shows in a pass. */
export interface MemoryDisk {
  readonly bytes: Buffer;
  readonly extents: readonly Extent[];
  readonly fileExtents: FileExtents | undefined;
}

/** A disk in memory that a test may change between passes and between reads. */
export class MemorySnapshotSource implements SnapshotSource {
  readonly sizeBytes: number;
  readonly mayChange: boolean;
  disk: MemoryDisk;
  /** Kinds of the passes so far. */
  readonly passes: ('live' | 'frozen')[] = [];
  isFrozen = false;
  readsUnderWay = 0;
  /** Called when a pass starts; may change the disk or throw. */
  onPass: (kind: 'live' | 'frozen', count: number) => void = () => undefined;
  /** Called before each read; may change the disk (if it is not frozen) or throw. */
  onRead: (kind: 'live' | 'frozen') => void = () => undefined;

  constructor(disk: MemoryDisk, { mayChange }: { readonly mayChange: boolean }) {
    this.disk = disk;
    this.sizeBytes = disk.bytes.byteLength;
    this.mayChange = mayChange;
  }

  async pass(kind: 'live' | 'frozen'): Promise<SnapshotPass> {
    assert.ok(!this.isFrozen, 'a frozen pass is the last');
    this.passes.push(kind);
    this.onPass(kind, this.passes.length);
    this.isFrozen = kind === 'frozen';
    let isOver = false;
    const { extents, fileExtents } = this.disk;
    const read = async (offsetBytes: number, lengthBytes: number): Promise<Buffer> => {
      assert.ok(!isOver, 'a read after the pass ended');
      this.readsUnderWay += 1;
      try {
        this.onRead(kind);
        // As a real disk: the bytes come later than they were asked for.
        await new Promise((resolve) => {
          setImmediate(resolve);
        });
        assert.ok(!isOver, 'a pass ended under a read');
        const bytes = this.disk.bytes.subarray(offsetBytes, offsetBytes + lengthBytes);
        if (bytes.byteLength === lengthBytes) return Buffer.from(bytes);
        throw new IngotError('source-truncated', `${bytes.byteLength} of ${lengthBytes} bytes`);
      } finally {
        this.readsUnderWay -= 1;
      }
    };
    return {
      kind,
      sizeBytes: this.sizeBytes,
      extents,
      fileExtents,
      originBytes: 0,
      freeze:
        kind === 'frozen' && this.mayChange
          ? { check: () => undefined, progressed: () => undefined }
          : undefined,
      read,
      readInto: async (offsetBytes, target) => {
        (await read(offsetBytes, target.byteLength)).copy(target);
      },
      end: async () => {
        isOver = true;
        if (kind === 'frozen') this.isFrozen = false;
      },
    };
  }

  facts(): CaptureFacts {
    assert.ok(!this.isFrozen, 'facts are complete after the frozen pass');
    return {
      consistency: this.mayChange ? 'frozen' : 'crash-consistent',
      freezeMs: this.mayChange ? 7 : 0,
      filesystem: 'ext4',
      source: '/memory',
      freeSpace: 'zero',
    };
  }

  notices(): readonly string[] {
    return [];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.isFrozen = false;
  }
}
