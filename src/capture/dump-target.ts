/** Follows a write that may take long. */
export interface WriteWatch {
  /** Called while the reader is waited for; what it throws ends the wait. */
  alive(): void;
  /** Called when the target has taken these many more bytes. */
  wrote(bytes: number): void;
}

/** A target whose bytes can be written in any order, and more than once: a file or a device. */
export interface PositionedTarget {
  /** Whether it reads as zeros where nothing was written: true for files, false for devices. */
  readonly isBlank: boolean;
  /**
   * Gives it its size, before anything is written.
   *
   * @throws IngotError `target-full`, `target-unwritable`, as all calls do
   */
  begin(sizeBytes: number): Promise<void>;
  writeAt(offsetBytes: number, bytes: Uint8Array, watch: WriteWatch): Promise<void>;
  /** Makes a range read as zeros; a file gives its space back. */
  zeroAt(offsetBytes: number, lengthBytes: number, watch: WriteWatch): Promise<void>;
  /** Brings what was written to the disk, so that a later write need not wait for it. */
  sync(): Promise<void>;
}

/**
 * Where a dump goes: a file that appears whole or not at all, or a pipe.
 *
 * Disposing of it without `commit` leaves nothing behind where that is possible.
 */
export interface DumpTarget extends AsyncDisposable {
  /** Whether holes cost nothing: `skip` moves on instead of writing zeros. */
  readonly isSparse: boolean;
  /** Bytes that fit, or undefined when nobody knows. */
  readonly roomBytes: number | undefined;
  /** Writes anywhere, instead of `write` and `skip`; undefined where bytes go in order only. */
  readonly positioned?: PositionedTarget | undefined;
  /**
   * Writes all of `bytes` behind what was written before.
   *
   * @throws IngotError `target-full`, `target-closed`, `target-unwritable`
   */
  write(bytes: Uint8Array, watch: WriteWatch): Promise<void>;
  /** Leaves a hole that reads as zeros. Only where {@link isSparse}. */
  skip(lengthBytes: number): Promise<void>;
  /** Waits until the reader has taken everything; returns at once for files. */
  taken(watch: WriteWatch): Promise<void>;
  /** Makes the target durable and visible. */
  commit(): Promise<void>;
}
