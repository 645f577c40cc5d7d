import type { Id } from '../../base/index.ts';

/** Kinds of long work. */
export type JobKind = 'plain-digest' | 'verify' | 'collect' | 'backup' | 'import';

/** Life of a job. A running one whose lease ended is claimed again. */
export type JobState = 'queued' | 'running' | 'done' | 'failed' | 'cancelled';

/** Long work that survives a restart. */
export interface Job {
  readonly id: Id<'job'>;
  readonly kind: JobKind;
  /** What it works on: an image, a pack, or the empty text for the whole library. */
  readonly subject: string;
  readonly accountId: Id<'acc'> | undefined;
  readonly state: JobState;
  /** The process that works on it, and until when (ms since 1970) it may be believed to. */
  readonly owner: string;
  readonly leaseUntil: number;
  readonly attempts: number;
  readonly doneBytes: number;
  readonly totalBytes: number | undefined;
  readonly stage: string;
  /** Where to go on, written by the work itself; empty at the beginning. */
  readonly checkpoint: string;
  /** Failure code and message once it failed; a report as JSON once it is done. */
  readonly outcome: string;
  readonly createdAt: number;
  readonly finishedAt: number | undefined;
}

/** The part of the catalogue that jobs need. */
export interface JobCatalogue {
  /** Adds a job, or returns the queued or running one of the same kind and subject. */
  addJob(job: Job): Promise<Job>;
  job(jobId: string): Promise<Job | undefined>;
  /** @returns the newest job of this kind and subject */
  lastJob(kind: JobKind, subject: string): Promise<Job | undefined>;
  /** @returns how many jobs there are of each kind and state */
  jobCounts(): Promise<
    { readonly kind: JobKind; readonly state: JobState; readonly count: number }[]
  >;
  /** @returns newest first, at most `limit` */
  jobs(filter: { readonly isOpen: boolean | undefined; readonly limit: number }): Promise<Job[]>;
  /**
   * Takes the oldest job of these kinds that is queued, or running under a lease of another owner
   * that ended.
   *
   * @returns it as it is now, with one attempt more, or undefined
   */
  claimJob(
    owner: string,
    now: number,
    leaseUntil: number,
    kinds: readonly JobKind[],
  ): Promise<Job | undefined>;
  /** Writes progress; false when the job belongs to somebody else by now. */
  touchJob(
    jobId: string,
    owner: string,
    changes: Partial<Pick<Job, 'leaseUntil' | 'doneBytes' | 'totalBytes' | 'stage' | 'checkpoint'>>,
  ): Promise<boolean>;
  /** Ends a job; false when it belongs to somebody else by now. */
  finishJob(
    jobId: string,
    owner: string,
    end: Pick<Job, 'state' | 'outcome' | 'finishedAt'>,
  ): Promise<boolean>;
  /** Queues a running job again as if this attempt had not been made. */
  releaseJob(jobId: string, owner: string): Promise<void>;
  /** Ends a job that is queued or running, whoever owns it. */
  cancelJob(jobId: string, now: number): Promise<void>;
  /** Queues every running job again: nobody else works on this library. */
  interruptJobs(): Promise<void>;
}
