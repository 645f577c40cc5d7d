import { type Clock, IngotError } from '../../base/index.ts';
import type { FreezeGuard, FreezeLimits } from '../freeze.ts';
import type { DeviceSession, FreezePlan } from './device-session.ts';

/** How often the limits are looked at, in ms. */
const WATCH_EVERY_MS = 250;
/** How long reads that nobody wants any more may hold up the thaw. */
const MAX_IDLE_WAIT_MS = 2000;

/**
 * Freezes filesystems on the other side of a session.
 *
 * The guard itself is a process on the device; this keeps its limits and asks it. Whatever ends the
 * session ends the freeze.
 *
 * @see docs/formats/pull-protocol.md "The guard"
 */
export class RemoteGuard implements FreezeGuard {
  readonly #session: DeviceSession;
  readonly #plan: FreezePlan;
  readonly #limits: FreezeLimits;
  readonly #clock: Clock;
  readonly #onSnapshot: (devicePath: string) => Promise<void>;
  #frozenAt: number | undefined;
  #progressAt = 0;
  #lengthMs = 0;
  #stopWatch = new AbortController();

  /** @param onSnapshot is told when reads go to an LVM snapshot from now on */
  constructor(
    session: DeviceSession,
    setup: {
      readonly plan: FreezePlan;
      readonly limits: FreezeLimits;
      readonly clock: Clock;
      readonly onSnapshot: (devicePath: string) => Promise<void>;
    },
  ) {
    this.#session = session;
    this.#plan = setup.plan;
    this.#limits = setup.limits;
    this.#clock = setup.clock;
    this.#onSnapshot = setup.onSnapshot;
  }

  async freeze(): Promise<void> {
    const startedAt = this.#clock.monotonic();
    this.#frozenAt = startedAt;
    this.#progressAt = startedAt;
    this.#stopWatch = new AbortController();
    // A snapshot of LVM holds nobody up: nothing bounds how long it is read.
    if (this.#plan.kind === 'mounts') this.#watch(this.#stopWatch.signal).catch(() => undefined);
    try {
      const snapshotDevice = await this.#session.freeze(this.#plan);
      if (snapshotDevice === undefined) return;
      // LVM held the filesystem for less than this while it made the snapshot.
      this.#lengthMs = this.#clock.monotonic() - startedAt;
      await this.#onSnapshot(snapshotDevice);
    } catch (thrown) {
      this.#frozenAt = undefined;
      this.#stopWatch.abort();
      // Lost while it froze: nobody knows whether it did.
      const { failure } = this.#session;
      throw failure === undefined ? thrown : this.#lost(failure);
    }
  }

  progressed(): void {
    this.#progressAt = this.#clock.monotonic();
  }

  check(): void {
    const { failure } = this.#session;
    if (failure !== undefined) throw this.#lost(failure);
  }

  async thaw(): Promise<number> {
    const frozenAt = this.#frozenAt;
    if (frozenAt === undefined) return this.#lengthMs;
    this.#frozenAt = undefined;
    this.#stopWatch.abort();
    // A pass that failed leaves reads under way. On a slow link they are not waited for.
    if (!(await this.#session.isIdleWithin(MAX_IDLE_WAIT_MS))) {
      this.#session.breakOff(new IngotError('freeze-lost', 'the pass was broken off'));
    }
    try {
      await this.#session.thaw();
    } catch (thrown) {
      throw this.#lost(this.#session.failure ?? thrown);
    }
    if (this.#plan.kind === 'mounts') this.#lengthMs = this.#clock.monotonic() - frozenAt;
    return this.#lengthMs;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#frozenAt === undefined) return;
    this.#frozenAt = undefined;
    this.#stopWatch.abort();
    this.#session.breakOff(new IngotError('freeze-lost', 'the capture was broken off'));
  }

  /** What a broken session means while something was frozen. */
  #lost(failure: unknown): unknown {
    if (!(failure instanceof IngotError)) return failure;
    if (failure.code === 'freeze-lost' || failure.code === 'freeze-timeout') return failure;
    return new IngotError(
      'freeze-lost',
      `the freeze ended with the session: ${failure.message}`,
      failure.facts,
      { cause: failure },
    );
  }

  async #watch(signal: AbortSignal): Promise<void> {
    for (;;) {
      await this.#clock.sleep(WATCH_EVERY_MS, signal);
      const { maxFreezeMs, maxStallMs } = this.#limits;
      const now = this.#clock.monotonic();
      const heldMs = now - (this.#frozenAt ?? now);
      const reason =
        maxFreezeMs !== undefined && heldMs > maxFreezeMs
          ? `the filesystem was frozen for ${maxFreezeMs} ms`
          : now - this.#progressAt > maxStallMs
            ? `nothing moved for ${maxStallMs} ms while the filesystem was frozen`
            : undefined;
      if (reason !== undefined) {
        this.#session.breakOff(new IngotError('freeze-timeout', reason));
        return;
      }
    }
  }
}
