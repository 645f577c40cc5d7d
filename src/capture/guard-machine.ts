import type { Clock } from '../base/index.ts';
import type { FreezeCalls, FreezeLimits } from './freeze.ts';

type State = 'ready' | 'frozen' | 'over';

/**
 * What a guard process does, without its pipes: reads commands, freezes, and thaws when told, when
 * its capture is gone, or at a limit.
 *
 * Freezing several filesystems is all or nothing: the last that was frozen thaws first.
 *
 * @see docs/capture.md "The guard's protocol"
 */
export class GuardMachine {
  readonly #calls: FreezeCalls;
  readonly #count: number;
  readonly #clock: Clock;
  readonly #say: (line: string) => void;
  readonly #stop = new AbortController();
  #state: State = 'ready';
  #frozenAt = 0;
  #progressAt = 0;

  /**
   * @param setup `count` filesystems, addressed by index in {@link FreezeCalls}; `say` sends one
   *   line to the capture and must not block
   */
  constructor(setup: {
    readonly calls: FreezeCalls;
    readonly count: number;
    readonly clock: Clock;
    readonly say: (line: string) => void;
  }) {
    this.#calls = setup.calls;
    this.#count = setup.count;
    this.#clock = setup.clock;
    this.#say = setup.say;
  }

  /** Takes one line of the capture; unknown ones are ignored. */
  receive(line: string): void {
    const [command, maxFreeze, maxStall] = line.split(' ');
    if (command === 'freeze' && this.#state === 'ready') {
      const maxFreezeMs = Number(maxFreeze);
      this.#freeze({
        maxFreezeMs: maxFreezeMs > 0 ? maxFreezeMs : undefined,
        maxStallMs: Number(maxStall),
      });
    } else if (command === 'progress') {
      this.#progressAt = this.#clock.monotonic();
    } else if (command === 'thaw' && this.#state === 'frozen') {
      const errno = this.#thawAll();
      this.#say(errno === undefined ? 'thawed' : `lost ${errno}`);
    }
  }

  /** The capture's end of the pipe closed: it is dead, or done. */
  captureGone(): void {
    if (this.#state === 'frozen') this.#thawAll();
    this.#state = 'over';
    this.#stop.abort();
  }

  #freeze(limits: FreezeLimits): void {
    this.#frozenAt = this.#clock.monotonic();
    for (let index = 0; index < this.#count; index += 1) {
      const errno = this.#calls.freeze(index);
      if (errno !== undefined) {
        for (let done = index - 1; done >= 0; done -= 1) this.#calls.thaw(done);
        this.#state = 'over';
        this.#say(`failed ${index} ${errno}`);
        return;
      }
    }
    this.#state = 'frozen';
    this.#progressAt = this.#clock.monotonic();
    this.#say('frozen');
    void this.#watch(limits);
  }

  async #watch(limits: FreezeLimits): Promise<void> {
    while (this.#state === 'frozen') {
      const now = this.#clock.monotonic();
      const untilMax = this.#frozenAt + (limits.maxFreezeMs ?? Number.POSITIVE_INFINITY) - now;
      const untilStall = this.#progressAt + limits.maxStallMs - now;
      if (untilMax <= 0 || untilStall <= 0) {
        const errno = this.#thawAll();
        this.#say(
          errno === undefined ? `limit ${untilMax <= 0 ? 'max' : 'stall'}` : `lost ${errno}`,
        );
        return;
      }
      try {
        await this.#clock.sleep(Math.min(untilMax, untilStall), this.#stop.signal);
      } catch {
        return; // Thawed meanwhile: nothing is left to watch.
      }
    }
  }

  #thawAll(): string | undefined {
    this.#state = 'over';
    this.#stop.abort();
    let failed: string | undefined;
    for (let index = this.#count - 1; index >= 0; index -= 1) {
      failed = this.#calls.thaw(index) ?? failed;
    }
    return failed;
  }
}
