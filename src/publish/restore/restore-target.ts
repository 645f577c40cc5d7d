/** What a restore writes to, for people. */
export interface TargetFacts {
  readonly path: string;
  readonly kind: 'block-device' | 'file';
  readonly sizeBytes: number;
}

/**
 * A block device or file that takes an image.
 *
 * Offsets and lengths of `read` and `write` are multiples of `blockBytes`, and their buffers come
 * from `allocate`. Every implementation passes `test/contracts/restore-target.ts`, and promises that:
 *
 * - nobody else has it open for writing or mounted;
 * - a read gives what the medium has, never what a cache was told;
 * - after `sync` returned, everything written survives a power cut;
 * - before `publish` returned, a new file is not seen under its name.
 */
export interface RestoreTarget extends AsyncDisposable {
  readonly facts: TargetFacts;
  /** A power of two, 512 to 4096. */
  readonly blockBytes: number;
  /** Whether every byte reads as zero so far (a new file): nothing needs to be compared. */
  readonly isBlank: boolean;
  /**
   * Whether `zero` costs nothing much. Otherwise it writes zeros, and what is zero already is
   * better left alone.
   */
  readonly zeroesCheaply: boolean;
  /** @returns memory that direct I/O takes */
  allocate(lengthBytes: number): Buffer<ArrayBuffer>;
  /**
   * Fills the buffer. What lies behind the end of the target reads as zeros.
   *
   * @throws IngotError `source-unreadable`
   */
  read(buffer: Buffer, offsetBytes: number): Promise<void>;
  /** @throws IngotError `target-full`, `target-closed` */
  write(buffer: Buffer, offsetBytes: number): Promise<void>;
  /** Makes a range read as zeros, and gives its space back where that can be done. */
  zero(offsetBytes: number, lengthBytes: number): Promise<void>;
  /** Makes what was written durable; later reads come from the medium. */
  sync(): Promise<void>;
  /** Puts a new file under its name. Nothing for a device. */
  publish(): Promise<void>;
}
