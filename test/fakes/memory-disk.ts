import { IngotError } from '../../src/base/index.ts';
import type { Extent } from '../../src/bytes/index.ts';
import { DiskSnapshot } from '../../src/capture/disk-snapshot.ts';
import type { FreezeGuard } from '../../src/capture/freeze.ts';

/** A guard of a filesystem that exists in a test's mind only. */
export class MemoryGuard implements FreezeGuard {
  isFrozen = false;
  isLost = false;
  progressCount = 0;

  freeze(): Promise<void> {
    this.isFrozen = true;
    return Promise.resolve();
  }

  progressed(): void {
    this.progressCount += 1;
  }

  check(): void {
    if (this.isLost) throw new IngotError('freeze-lost', 'the freeze was lost');
  }

  async thaw(): Promise<number> {
    this.isFrozen = false;
    this.check();
    return 12;
  }

  /** Thaws as somebody else would. */
  lose(): void {
    this.isFrozen = false;
    this.isLost = true;
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.isFrozen = false;
    return Promise.resolve();
  }
}

/** A mounted disk in memory with these bytes allocated, as a snapshot source. */
export function memorySnapshot(
  disk: Buffer,
  allocated: readonly Extent[],
  guard: MemoryGuard | undefined,
): DiskSnapshot {
  const owned = new AsyncDisposableStack();
  if (guard !== undefined) owned.use(guard);
  return new DiskSnapshot({
    reader: {
      sizeBytes: disk.length,
      read: (offsetBytes, lengthBytes) => {
        if (offsetBytes + lengthBytes > disk.length) {
          return Promise.reject(new IngotError('source-truncated', 'beyond the end'));
        }
        return Promise.resolve(Buffer.from(disk.subarray(offsetBytes, offsetBytes + lengthBytes)));
      },
      readInto: async (offsetBytes, target) => {
        disk.copy(target, 0, offsetBytes, offsetBytes + target.byteLength);
      },
      // What was released is gone, so that nobody can go on looking at it.
      lend: async (offsetBytes, lengthBytes) => {
        if (offsetBytes + lengthBytes > disk.length) {
          throw new IngotError('source-truncated', 'beyond the end');
        }
        const bytes = Buffer.allocUnsafeSlow(lengthBytes);
        disk.copy(bytes, 0, offsetBytes, offsetBytes + lengthBytes);
        return { bytes, release: () => void bytes.buffer.transfer(0) };
      },
      dropStale: () => Promise.resolve(),
      [Symbol.asyncDispose]: () => Promise.resolve(),
    },
    guard,
    sync: () => Promise.resolve(),
    readMap: () =>
      Promise.resolve({
        filesystem: 'ext4',
        allocated,
        fileExtents: undefined,
        originBytes: 0,
        notices: [],
        partitions: [],
      }),
    freeSpace: 'zero',
    unguarded: 'crash-consistent',
    isMounted: guard !== undefined,
    source: 'memory',
    notices: [],
    owned,
  });
}
