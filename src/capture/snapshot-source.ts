import type { Extent, FileExtents } from '../bytes/index.ts';
import type { FillingReader } from './disk-reader.ts';

/** What a snapshot can promise about the instant that it shows (docs/capture.md). */
export type Consistency = 'frozen' | 'crash-consistent' | 'none';

/** What a capture tells about itself once it is over; kept with the image. */
export interface CaptureFacts {
  readonly consistency: Consistency;
  /** How long the filesystem was frozen, in ms; 0 where nothing was. */
  readonly freezeMs: number;
  /** Filesystem name as blkid has it (`ext4`), `disk` for a partitioned disk, or undefined. */
  readonly filesystem: string | undefined;
  /** Where it was read, for people: a mount point, a device, a file name, `ssh://…`. */
  readonly source: string;
  /** Whether free blocks were replaced with zeros. */
  readonly freeSpace: 'zero' | 'keep';
}

/** A freeze that a pass lives on, for work that is slow between reads. */
export interface HeldFreeze {
  /** @throws IngotError `freeze-lost` or `freeze-timeout` when the freeze is over already */
  check(): void;
  /** Tells that work goes on though nothing is read; every read does so by itself. */
  progressed(): void;
}

/** One reading of a source: which bytes matter, where its files lie, and the bytes. */
export interface SnapshotPass extends FillingReader {
  readonly kind: 'live' | 'frozen';
  /** What to read, ascending and merged; everything else of the disk reads as zeros. */
  readonly extents: readonly Extent[];
  /** Where files lie, when the filesystem's inode tables could be read; undefined: cut by content. */
  readonly fileExtents: FileExtents | undefined;
  /** Byte offset that 4 KiB blocks are counted from (a filesystem's own start). */
  readonly originBytes: number;
  /** What is held frozen for this pass; undefined where nothing is. */
  readonly freeze?: HeldFreeze | undefined;
  /** Ends the pass: a frozen pass thaws. Calling it twice is safe. */
  end(): Promise<void>;
}

/**
 * A disk or filesystem that a snapshot is taken of; `keep/` pulls, the source never pushes.
 *
 * Every implementation passes `test/contracts/snapshot-source.ts`, and promises that:
 *
 * - the bytes of the frozen pass are those of one instant;
 * - after `end()` or disposal nothing is frozen; disposing twice is safe;
 * - a pass that lost its freeze fails with `freeze-lost` instead of returning bytes.
 */
export interface SnapshotSource extends AsyncDisposable {
  readonly sizeBytes: number;
  /** Whether live passes before the frozen one are worth it (a mounted filesystem: yes). */
  readonly mayChange: boolean;
  /**
   * Starts a pass. At most one is open. A `frozen` pass is the last.
   *
   * @throws IngotError `freeze-failed`, `source-frozen`, `source-unreadable`
   */
  pass(kind: 'live' | 'frozen'): Promise<SnapshotPass>;
  /** What happened; complete after the frozen pass has ended. */
  facts(): CaptureFacts;
  /** What people should know about how the source is read ("the journal needs recovery: …"). */
  notices(): readonly string[];
}
