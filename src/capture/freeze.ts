/** How long a filesystem may stay frozen, in ms. */
export interface FreezeLimits {
  /** The whole freeze; undefined: only {@link maxStallMs} bounds it. */
  readonly maxFreezeMs: number | undefined;
  /** Without any progress. */
  readonly maxStallMs: number;
}

/** No progress for 30 s ends a freeze, whatever its reader waits for. */
export const MAX_STALL_MS = 30_000;
/** A pre-copy's frozen part has this long unless `--max-freeze` says otherwise. */
export const DEFAULT_MAX_FREEZE_MS = 60_000;

/**
 * Freezes filesystems and sees to it that they thaw, whatever dies.
 *
 * Every implementation promises that:
 *
 * - `freeze` returned means: the kernel froze each filesystem, on a descriptor of that filesystem;
 * - what somebody else froze is left alone (`source-frozen`);
 * - the freeze ends with the capture's process, with the guard, and at its limits;
 * - a freeze that ended by anything but `thaw` is reported by `check`, `lost` and `thaw`.
 *
 * @see docs/capture.md
 */
export interface FreezeGuard extends AsyncDisposable {
  /** @throws IngotError `source-frozen`, `freeze-failed`, `freeze-timeout`, `freeze-lost` */
  freeze(): Promise<void>;
  /** Tells that work goes on; refreshes the limit on stalls. Cheap. */
  progressed(): void;
  /** @throws IngotError `freeze-lost` or `freeze-timeout` when the freeze is over already */
  check(): void;
  /**
   * Ends the freeze. Safe to call twice.
   *
   * @returns how long it lasted, in ms
   * @throws IngotError `freeze-lost`, `freeze-timeout` when it had ended before
   */
  thaw(): Promise<number>;
}

/** What the guard process needs from the kernel; each gives an errno name on failure. */
export interface FreezeCalls {
  freeze(index: number): string | undefined;
  thaw(index: number): string | undefined;
}

/** Where freezes are recorded; on every Debian a tmpfs that a boot empties. */
export const FROZEN_RECORDS = '/run/ingot/frozen';
