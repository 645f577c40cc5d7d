import {
  type Clock,
  errnoOf,
  type FailureCode,
  type Id,
  IngotError,
  isFailure,
  type Log,
  newId,
  type OnProgress,
  type ProgressReport,
} from '../../base/index.ts';
import { Mutex } from '../library/mutex.ts';
import type { Job, JobCatalogue, JobKind } from './job-catalogue.ts';

/** What a job's work is given. */
export interface JobControl {
  /** Aborts when the job is cancelled or the daemon ends. */
  readonly signal: AbortSignal;
  /** Where an earlier attempt stopped; empty at first. */
  readonly checkpoint: string;
  readonly onProgress: OnProgress;
  /** Keeps where to go on; returns once it is durable. */
  readonly keep: (checkpoint: string) => Promise<void>;
}

/** The work of one kind of job. @returns what to remember of it, as JSON */
export type JobWork = (job: Job, control: JobControl) => Promise<string>;

/** How jobs of one kind are treated. */
export interface JobRules {
  /** How many of them run at once, beside those of kinds without a number of their own. */
  readonly atOnce?: number;
  /** Whether one may begin now; see {@link JobRunner.lookAgain}. */
  readonly isReady?: () => boolean;
  /** Called when one has failed or was cancelled for good. Doing it twice is safe. */
  readonly onGivenUp?: (job: Job, reason: unknown) => Promise<void>;
}

interface RunningJob {
  readonly kind: JobKind;
  readonly abort: AbortController;
  progress: ProgressReport | undefined;
}

const LEASE_MS = 60_000;
const BEAT_MS = 10_000;
const WATCH_MS = 500;
const MAX_ATTEMPTS = 3;

/**
 * Runs jobs, a few at a time, and goes on with what another process left behind.
 *
 * Disposal stops the work; it is claimed again at the next start.
 */
export class JobRunner implements AsyncDisposable {
  readonly #catalogue: JobCatalogue;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #works: Map<JobKind, JobWork & JobRules>;
  readonly #owner = newId('job');
  readonly #atOnce: number;
  readonly #running = new Map<Id<'job'>, RunningJob>();
  readonly #end = new AbortController();
  /** Each is aborted when a job is over: whoever watches one looks again. */
  readonly #watchers = new Set<AbortController>();
  readonly #tasks = new Set<Promise<void>>();
  readonly #claimGate = new Mutex();
  /** Tasks that will still look for a job. */
  #claiming = 0;
  /** How often somebody has added work. */
  #calls = 0;
  #isStarted = false;

  constructor(
    catalogue: JobCatalogue,
    clock: Clock,
    log: Log,
    works: Partial<Record<JobKind, JobWork>>,
    atOnce = 2,
  ) {
    this.#catalogue = catalogue;
    this.#clock = clock;
    this.#log = log;
    this.#works = new Map(Object.entries(works) as [JobKind, JobWork][]);
    this.#atOnce = atOnce;
  }

  /** Learns one more kind of job. Jobs of a kind that nobody does stay queued. */
  learn(kind: JobKind, work: JobWork, rules: JobRules = {}): void {
    this.#works.set(
      kind,
      Object.assign((job: Job, control: JobControl) => work(job, control), rules),
    );
    if (this.#isStarted) this.#fill();
  }

  /** Looks for jobs that were not ready before. */
  lookAgain(): void {
    if (this.#isStarted) this.#fill();
  }

  /** Takes up what is queued and what the last process was working on. */
  async start(): Promise<void> {
    await this.#catalogue.interruptJobs();
    this.#isStarted = true;
    this.#fill();
  }

  /** Queues work; the same work twice is one job. */
  async add(kind: JobKind, subject: string, accountId?: Id<'acc'>): Promise<Job> {
    const job = await this.#catalogue.addJob({
      id: newId('job'),
      kind,
      subject,
      accountId,
      state: 'queued',
      owner: '',
      leaseUntil: 0,
      attempts: 0,
      doneBytes: 0,
      totalBytes: undefined,
      stage: '',
      checkpoint: '',
      outcome: '',
      createdAt: this.#clock.now(),
      finishedAt: undefined,
    });
    this.#fill();
    return job;
  }

  /** @throws IngotError `job-not-found` */
  async show(jobId: string): Promise<Job> {
    const job = await this.#catalogue.job(jobId);
    if (job === undefined) {
      throw new IngotError('job-not-found', `there is no job ${jobId.slice(0, 64)}`);
    }
    return this.#current(job);
  }

  /** @returns how many jobs there are of each kind and state */
  async counts(): ReturnType<JobCatalogue['jobCounts']> {
    return await this.#catalogue.jobCounts();
  }

  /** @returns newest first */
  async list(filter: {
    readonly isOpen: boolean | undefined;
    readonly limit: number;
  }): Promise<Job[]> {
    return (await this.#catalogue.jobs(filter)).map((job) => this.#current(job));
  }

  /** Yields the job whenever it may have changed, and for the last time as soon as it is over. */
  async *watch(jobId: string, signal: AbortSignal): AsyncGenerator<Job, void, undefined> {
    for (;;) {
      // Before the look: what ends between the look and the wait must end the wait.
      const woken = new AbortController();
      this.#watchers.add(woken);
      try {
        const job = await this.show(jobId);
        yield job;
        if (job.state !== 'queued' && job.state !== 'running') return;
        await this.#pause(woken.signal, signal);
      } finally {
        this.#watchers.delete(woken);
      }
    }
  }

  /** Stops a job for good; one that is over stays as it is. */
  async cancel(jobId: Id<'job'>): Promise<void> {
    await this.#catalogue.cancelJob(jobId, this.#clock.now());
    this.#wakeWatchers();
    const reason = cancelled(jobId);
    const running = this.#running.get(jobId);
    if (running !== undefined) {
      running.abort.abort(reason);
      return;
    }
    const job = await this.#catalogue.job(jobId);
    if (job?.state === 'cancelled') await this.#giveUp(job, reason);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.abort(new IngotError('library-busy', 'the daemon ends'));
    while (this.#tasks.size > 0) await Promise.allSettled([...this.#tasks]);
  }

  #current(job: Job): Job {
    const progress = this.#running.get(job.id)?.progress;
    if (progress === undefined || job.state !== 'running') return job;
    const { doneBytes, totalBytes, stage } = progress;
    return { ...job, doneBytes, totalBytes, stage };
  }

  #fill(): void {
    this.#calls += 1;
    while (this.#claiming < this.#places() && !this.#end.signal.aborted) {
      this.#claiming += 1;
      const task: Promise<void> = this.#claimAll()
        .catch((error: unknown) => {
          this.#claiming -= 1;
          this.#log.error('jobs have stopped', { error: String(error) });
        })
        .finally(() => this.#tasks.delete(task));
      this.#tasks.add(task);
    }
  }

  /** Works until nothing is left to claim. */
  async #claimAll(): Promise<void> {
    while (!this.#end.signal.aborted) {
      const calls = this.#calls;
      const claimed = await this.#claimGate.run(() => this.#claim());
      if (claimed !== undefined) await claimed.end;
      // What was added while this task looked found all tasks busy: it must look again.
      else if (calls === this.#calls) break;
    }
    // In the same turn as the decision, so that whoever adds a job next starts a task for it.
    this.#claiming -= 1;
  }

  /** Takes one job and begins with it, before anybody else counts how many run. */
  async #claim(): Promise<{ readonly end: Promise<void> } | undefined> {
    // Whoever waited for this turn may find the jobs that an ending runner gives back.
    if (this.#end.signal.aborted) return undefined;
    const now = this.#clock.now();
    const kinds = this.#claimable();
    const job = await this.#catalogue.claimJob(this.#owner, now, now + LEASE_MS, kinds);
    return job === undefined ? undefined : { end: this.#run(job) };
  }

  /** Kinds of which one more may run. */
  #claimable(): JobKind[] {
    const running = [...this.#running.values()].map(({ kind }) => kind);
    const limitOf = (kind: JobKind): number | undefined => this.#works.get(kind)?.atOnce;
    const unlimited = running.filter((kind) => limitOf(kind) === undefined).length;
    return [...this.#works.keys()].filter((kind) => {
      if (this.#works.get(kind)?.isReady?.() === false) return false;
      const limit = limitOf(kind);
      if (limit === undefined) return unlimited < this.#atOnce;
      return running.filter((one) => one === kind).length < limit;
    });
  }

  /** Jobs of all kinds that may run together. */
  #places(): number {
    return [...this.#works.values()].reduce((sum, { atOnce = 0 }) => sum + atOnce, this.#atOnce);
  }

  async #run(job: Job): Promise<void> {
    const { kind } = job;
    const running: RunningJob = { kind, abort: new AbortController(), progress: undefined };
    this.#running.set(job.id, running);
    const done = new AbortController();
    const signal = AbortSignal.any([running.abort.signal, this.#end.signal]);
    const beating = this.#beat(job, running, AbortSignal.any([done.signal, this.#end.signal]));
    try {
      const outcome = await this.#work(job, running, signal);
      await this.#finish(job, 'done', outcome);
    } catch (error) {
      // An ending daemon leaves the job to the next one; only those that crash over it count.
      if (this.#end.signal.aborted) {
        await this.#catalogue.releaseJob(job.id, this.#owner);
        return;
      }
      if (!isFailure(error))
        this.#log.error('a job failed by a bug', { job: job.id, error: stackOf(error) });
      const code = isFailure(error) ? error.code : 'bug';
      this.#log.warn('a job failed', { job: job.id, kind, code, reason: messageOf(error) });
      await this.#finish(job, 'failed', JSON.stringify({ code, message: messageOf(error) }));
      await this.#giveUp(job, error);
    } finally {
      done.abort();
      await beating;
      this.#running.delete(job.id);
    }
  }

  async #giveUp(job: Job, reason: unknown): Promise<void> {
    try {
      await this.#works.get(job.kind)?.onGivenUp?.(job, reason);
    } catch (error) {
      this.#log.error('a job that was given up is not cleaned up', {
        job: job.id,
        error: String(error),
      });
    }
  }

  async #work(job: Job, running: RunningJob, signal: AbortSignal): Promise<string> {
    const work = this.#works.get(job.kind);
    if (work === undefined) throw new Error(`a job of the kind ${job.kind} was claimed`);
    if (job.attempts > MAX_ATTEMPTS) {
      throw new IngotError(
        'library-unusable',
        `${job.id} was given up after ${MAX_ATTEMPTS} attempts`,
      );
    }
    return await work(job, {
      signal,
      checkpoint: job.checkpoint,
      onProgress: (report) => {
        running.progress = report;
      },
      keep: async (checkpoint) => {
        await this.#catalogue.touchJob(job.id, this.#owner, { checkpoint });
      },
    });
  }

  /** Renews the lease; work whose job is somebody else's by now is stopped. */
  async #beat(job: Job, running: RunningJob, signal: AbortSignal): Promise<void> {
    for (;;) {
      try {
        await this.#clock.sleep(BEAT_MS, signal);
      } catch {
        return;
      }
      const { doneBytes, totalBytes, stage } = running.progress ?? job;
      const leaseUntil = this.#clock.now() + LEASE_MS;
      const changes = {
        leaseUntil,
        doneBytes,
        stage,
        ...(totalBytes === undefined ? {} : { totalBytes }),
      };
      if (await this.#catalogue.touchJob(job.id, this.#owner, changes)) continue;
      running.abort.abort(new IngotError('job-not-found', `${job.id} has another owner`));
      return;
    }
  }

  async #finish(job: Job, state: 'done' | 'failed', outcome: string): Promise<void> {
    await this.#catalogue.finishJob(job.id, this.#owner, {
      state,
      outcome,
      finishedAt: this.#clock.now(),
    });
    this.#wakeWatchers();
  }

  /** @throws the reason of `stopped`, or of the end of this runner */
  async #pause(woken: AbortSignal, stopped: AbortSignal): Promise<void> {
    const stops = AbortSignal.any([stopped, this.#end.signal]);
    try {
      await this.#clock.sleep(WATCH_MS, AbortSignal.any([woken, stops]));
    } catch (thrown) {
      stops.throwIfAborted();
      if (!woken.aborted) throw thrown;
    }
  }

  #wakeWatchers(): void {
    for (const woken of this.#watchers) woken.abort();
  }
}

/** @returns why a job was given up that was cancelled or has failed */
export function reasonOf({ id, state, outcome }: Job): Error {
  if (state === 'cancelled') return cancelled(id);
  const { code, message } = JSON.parse(outcome) as { code: FailureCode | 'bug'; message: string };
  return code === 'bug' ? new Error(message) : new IngotError(code, message);
}

function cancelled(jobId: Id<'job'>): IngotError {
  return new IngotError('job-not-found', `${jobId} was cancelled`);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(errnoOf(error) ?? error);
}
