import type { Clock, Log } from '../../base/index.ts';
import type { Job, JobCatalogue } from './job-catalogue.ts';
import type { JobRunner } from './job-runner.ts';

/** Work for the whole library that comes again and again. */
export interface Schedule {
  readonly kind: 'verify' | 'collect' | 'backup';
  /** As it was set, for people. */
  readonly pattern: string;
  /**
   * @param ms since 1970
   * @returns the first time after it; undefined when there is none
   */
  nextAfter(ms: number): number | undefined;
}

/** A schedule, what it did last and when it comes next. */
export interface ScheduleState {
  readonly kind: Schedule['kind'];
  readonly pattern: string;
  /** In ms since 1970; a time that has passed comes with the next look. */
  readonly nextAt: number | undefined;
  readonly last: Job | undefined;
}

/** What schedules work with. */
export interface ScheduleParts {
  readonly catalogue: Pick<JobCatalogue, 'lastJob'>;
  readonly jobs: Pick<JobRunner, 'add'>;
  readonly clock: Clock;
  readonly log: Log;
  /** When the library was made, in ms since 1970: the beginning, while nothing was done yet. */
  readonly madeAt: number;
}

const LOOK_EVERY_MS = 30_000;

/**
 * Queues work when its time has come, also a time at which the daemon did not run.
 *
 * The last job of a kind tells when it was done, whoever asked for it, so nothing is done twice and
 * nothing has to be remembered. Disposal ends the looking, not the jobs.
 */
export class Schedules implements AsyncDisposable {
  readonly #parts: ScheduleParts;
  readonly #schedules: readonly Schedule[];
  readonly #end = new AbortController();
  readonly #looking: Promise<void>;

  constructor(parts: ScheduleParts, schedules: readonly Schedule[]) {
    this.#parts = parts;
    this.#schedules = schedules;
    this.#looking = this.#look();
  }

  /** @returns the schedules in the order in which they were given */
  async list(): Promise<ScheduleState[]> {
    return await Promise.all(this.#schedules.map((schedule) => this.#stateOf(schedule)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.abort(new Error('the daemon ends'));
    await this.#looking;
  }

  async #stateOf(schedule: Schedule): Promise<ScheduleState> {
    const { kind, pattern } = schedule;
    const last = await this.#parts.catalogue.lastJob(kind, '');
    const now = this.#parts.clock.now();
    // Work of the future comes from a clock that was wrong: waiting for that time may take years.
    const isOfFuture = last !== undefined && last.createdAt > now;
    const nextAt = isOfFuture ? now : schedule.nextAfter(last?.createdAt ?? this.#parts.madeAt);
    return { kind, pattern, nextAt, last };
  }

  async #look(): Promise<void> {
    const { clock, log } = this.#parts;
    for (;;) {
      try {
        await clock.sleep(LOOK_EVERY_MS, this.#end.signal);
      } catch {
        return;
      }
      for (const schedule of this.#schedules) {
        try {
          await this.#queueIfDue(schedule);
        } catch (error) {
          log.error('work could not be scheduled', { kind: schedule.kind, error: String(error) });
        }
      }
    }
  }

  async #queueIfDue(schedule: Schedule): Promise<void> {
    const { clock, jobs, log } = this.#parts;
    const { kind, nextAt, last } = await this.#stateOf(schedule);
    if (nextAt === undefined || nextAt > clock.now()) return;
    const job = await jobs.add(kind, '');
    if (job.id !== last?.id) log.info('scheduled work is queued', { kind, job: job.id });
  }
}
