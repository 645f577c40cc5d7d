import type { ByteReader, DiskMap, DiskState, Extent } from '../bytes/index.ts';
import type { DiskReader, LentBytes } from './disk-reader.ts';
import type { FreezeGuard } from './freeze.ts';
import type {
  CaptureFacts,
  Consistency,
  HeldFreeze,
  SnapshotPass,
  SnapshotSource,
} from './snapshot-source.ts';

/** Finds what is allocated on a disk, at a moment of which `state` says what is known. */
export type ReadMap = (reader: ByteReader, state: DiskState) => Promise<DiskMap>;

/** What a snapshot of a block device is made of. */
export interface DiskSnapshotParts {
  readonly reader: DiskReader;
  /** Freezes what is mounted from the device; undefined where nothing is, or nothing should be. */
  readonly guard: FreezeGuard | undefined;
  /** Writes back what the mounted filesystems hold, so that a freeze is short. */
  readonly sync: () => Promise<void>;
  readonly readMap: ReadMap;
  readonly freeSpace: 'zero' | 'keep';
  /** What a pass without a guard can promise. */
  readonly unguarded: Consistency;
  readonly isMounted: boolean;
  /** Whether the last pass holds nobody up, so that live ones before it are of no use. */
  readonly isHeldElsewhere?: boolean;
  readonly source: string;
  /** What was noticed while the source was looked for. */
  readonly notices: readonly string[];
  /** Released with the snapshot: the reader, the guard, and what they hold. */
  readonly owned: AsyncDisposableStack;
}

/** One reading of a block device; a frozen one checks that it still is before each answer. */
class DiskPass implements SnapshotPass {
  readonly kind: 'live' | 'frozen';
  readonly sizeBytes: number;
  readonly extents: readonly Extent[];
  readonly fileExtents: DiskMap['fileExtents'];
  readonly originBytes: number;
  readonly #reader: DiskReader;
  readonly freeze: HeldFreeze | undefined;
  readonly #end: () => Promise<void>;
  #isOver = false;

  constructor(setup: {
    readonly kind: 'live' | 'frozen';
    readonly map: DiskMap;
    readonly freeSpace: 'zero' | 'keep';
    readonly reader: DiskReader;
    readonly guard: FreezeGuard | undefined;
    readonly end: () => Promise<void>;
  }) {
    const { map, reader } = setup;
    this.kind = setup.kind;
    this.sizeBytes = reader.sizeBytes;
    this.extents =
      setup.freeSpace === 'keep'
        ? [{ offsetBytes: 0, lengthBytes: reader.sizeBytes }]
        : map.allocated;
    this.fileExtents = map.fileExtents;
    this.originBytes = map.originBytes;
    this.#reader = reader;
    this.freeze = setup.guard;
    this.#end = setup.end;
  }

  read(offsetBytes: number, lengthBytes: number): Promise<Buffer> {
    return this.#checked(() => this.#reader.read(offsetBytes, lengthBytes));
  }

  allocate(lengthBytes: number): Buffer {
    return this.#reader.allocate?.(lengthBytes) ?? Buffer.allocUnsafeSlow(lengthBytes);
  }

  lend(offsetBytes: number, lengthBytes: number): Promise<LentBytes | undefined> {
    return this.#checked(async () => this.#reader.lend?.(offsetBytes, lengthBytes));
  }

  readInto(offsetBytes: number, target: Buffer): Promise<void> {
    return this.#checked(() => this.#reader.readInto(offsetBytes, target));
  }

  async #checked<T>(read: () => Promise<T>): Promise<T> {
    if (this.#isOver) throw new Error('the pass is over');
    this.freeze?.check();
    const result = await read();
    // Checked after the read: bytes that arrived once the freeze was over are of another instant.
    this.freeze?.check();
    this.freeze?.progressed();
    return result;
  }

  async end(): Promise<void> {
    if (this.#isOver) return;
    this.#isOver = true;
    await this.#end();
  }
}

/**
 * A block device as a {@link SnapshotSource}: what is mounted from it is frozen for the last pass.
 */
export class DiskSnapshot implements SnapshotSource {
  readonly sizeBytes: number;
  readonly mayChange: boolean;
  readonly #parts: DiskSnapshotParts;
  #pass: SnapshotPass | undefined;
  #filesystem: string | undefined;
  #consistency: Consistency;
  #freezeMs = 0;
  #mapNotices: readonly string[] = [];

  constructor(parts: DiskSnapshotParts) {
    this.#parts = parts;
    this.sizeBytes = parts.reader.sizeBytes;
    this.mayChange = parts.isMounted && parts.isHeldElsewhere !== true;
    this.#consistency = parts.unguarded;
  }

  async pass(kind: 'live' | 'frozen'): Promise<SnapshotPass> {
    if (this.#pass !== undefined) throw new Error('a pass is open already');
    const { reader, sync } = this.#parts;
    const guard = kind === 'frozen' ? this.#parts.guard : undefined;
    // Written back first, so that the freeze itself has little left to write.
    await sync();
    await guard?.freeze();
    try {
      await reader.dropStale();
      const map = await this.#parts.readMap(
        {
          sizeBytes: reader.sizeBytes,
          read: async (offsetBytes, lengthBytes) => {
            guard?.check();
            const bytes = await reader.read(offsetBytes, lengthBytes);
            guard?.progressed();
            return bytes;
          },
        },
        this.#stateOf(kind),
      );
      guard?.check();
      this.#filesystem = map.filesystem;
      this.#mapNotices =
        guard === undefined ? map.notices : [...map.notices, ...freezeNotices(map.filesystem)];
      const pass = new DiskPass({
        kind,
        map,
        freeSpace: this.#parts.freeSpace,
        reader,
        guard,
        end: () => this.#endPass(guard),
      });
      this.#pass = pass;
      return pass;
    } catch (thrown) {
      await this.#endPass(guard);
      throw thrown;
    }
  }

  facts(): CaptureFacts {
    return {
      consistency: this.#consistency,
      freezeMs: this.#freezeMs,
      filesystem: this.#filesystem,
      source: this.#parts.source,
      freeSpace: this.#parts.freeSpace,
    };
  }

  notices(): readonly string[] {
    return [...this.#parts.notices, ...this.#mapNotices];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts.owned.disposeAsync();
  }

  /** What is known about the moment that a pass shows. */
  #stateOf(kind: 'live' | 'frozen'): DiskState {
    if (!this.#parts.isMounted) return 'at-rest';
    if (kind === 'live') return 'live';
    // Without a freeze the bitmaps may be older than the journal: only what needs no recovery may
    // leave blocks out.
    return this.#parts.guard === undefined ? 'at-rest' : 'frozen';
  }

  async #endPass(guard: FreezeGuard | undefined): Promise<void> {
    this.#pass = undefined;
    if (guard === undefined) return;
    this.#freezeMs = await guard.thaw();
    this.#consistency = 'frozen';
  }
}

/** What a freeze leaves undone, by filesystem. */
function freezeNotices(filesystem: string | undefined): readonly string[] {
  // The kernel ends JFS's log and marks it clean, but writes those pages at unmount only, so no
  // journal replay mends them. @see linux fs/jfs/super.c jfs_freeze, fs/jfs/jfs_umount.c
  return filesystem === 'jfs'
    ? ["jfs: a freeze leaves its maps' control pages in memory: run fsck.jfs -f on each copy first"]
    : [];
}
