import type { Job, JobKind, JobState } from '../jobs/job-catalogue.ts';
import type { SqliteConnection } from './sqlite-connection.ts';
import { jobOf } from './sqlite-rows.ts';

/** The catalogue's calls for jobs. */
export function jobCalls(db: SqliteConnection) {
  return {
    addJob(job: Job): Job {
      return db.transaction(() => {
        const open = db.get(
          `SELECT * FROM state.jobs
             WHERE kind = ? AND subject = ? AND state IN ('queued', 'running')`,
          job.kind,
          job.subject,
        );
        if (open !== undefined) return jobOf(open);
        db.run(
          `INSERT INTO state.jobs VALUES
             (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
          job.id,
          job.kind,
          job.subject,
          job.accountId ?? null,
          job.state,
          job.owner,
          job.leaseUntil,
          job.attempts,
          job.doneBytes,
          job.totalBytes ?? null,
          job.stage,
          job.checkpoint,
          job.outcome,
          job.createdAt,
          job.finishedAt ?? null,
        );
        return job;
      });
    },

    job(jobId: string): Job | undefined {
      const row = db.get('SELECT * FROM state.jobs WHERE id = ?', jobId);
      return row === undefined ? undefined : jobOf(row);
    },

    lastJob(kind: JobKind, subject: string): Job | undefined {
      const row = db.get(
        'SELECT * FROM state.jobs WHERE kind = ? AND subject = ? ORDER BY number DESC LIMIT 1',
        kind,
        subject,
      );
      return row === undefined ? undefined : jobOf(row);
    },

    jobCounts(): { kind: JobKind; state: JobState; count: number }[] {
      return db
        .all('SELECT kind, state, count(*) AS n FROM state.jobs GROUP BY kind, state')
        .map((row) => ({
          kind: row['kind'] as JobKind,
          state: row['state'] as JobState,
          count: Number(row['n']),
        }));
    },

    jobs({ isOpen, limit }: { isOpen: boolean | undefined; limit: number }): Job[] {
      const where =
        isOpen === undefined ? '' : `WHERE state ${isOpen ? 'IN' : 'NOT IN'} ('queued', 'running')`;
      return db
        .all(`SELECT * FROM state.jobs ${where} ORDER BY number DESC LIMIT ?`, limit)
        .map(jobOf);
    },

    claimJob(
      owner: string,
      now: number,
      leaseUntil: number,
      kinds: readonly JobKind[],
    ): Job | undefined {
      return db.transaction(() => {
        const row = db.get(
          `UPDATE state.jobs SET state = 'running', owner = ?, lease_until = ?, attempts = attempts + 1
             WHERE number = (SELECT number FROM state.jobs
               WHERE (state = 'queued' OR (state = 'running' AND lease_until <= ? AND owner <> ?))
                 AND kind IN (SELECT value FROM json_each(?))
               ORDER BY number LIMIT 1)
             RETURNING *`,
          owner,
          leaseUntil,
          now,
          // A clock that jumps forwards ends the leases of jobs that the caller works on itself.
          owner,
          JSON.stringify(kinds),
        );
        return row === undefined ? undefined : jobOf(row);
      });
    },

    touchJob(
      jobId: string,
      owner: string,
      changes: Partial<
        Pick<Job, 'leaseUntil' | 'doneBytes' | 'totalBytes' | 'stage' | 'checkpoint'>
      >,
    ): boolean {
      const changed = db.run(
        `UPDATE state.jobs SET lease_until = coalesce(?, lease_until),
           done_bytes = coalesce(?, done_bytes), total_bytes = coalesce(?, total_bytes),
           stage = coalesce(?, stage), checkpoint = coalesce(?, checkpoint)
           WHERE id = ? AND owner = ? AND state = 'running'`,
        changes.leaseUntil ?? null,
        changes.doneBytes ?? null,
        changes.totalBytes ?? null,
        changes.stage ?? null,
        changes.checkpoint ?? null,
        jobId,
        owner,
      );
      return changed === 1;
    },

    finishJob(
      jobId: string,
      owner: string,
      end: Pick<Job, 'state' | 'outcome' | 'finishedAt'>,
    ): boolean {
      const changed = db.run(
        `UPDATE state.jobs SET state = ?, outcome = ?, finished_at = ?
           WHERE id = ? AND owner = ? AND state = 'running'`,
        end.state,
        end.outcome,
        end.finishedAt ?? null,
        jobId,
        owner,
      );
      return changed === 1;
    },

    releaseJob(jobId: string, owner: string): void {
      db.run(
        `UPDATE state.jobs SET state = 'queued', attempts = attempts - 1
           WHERE id = ? AND owner = ? AND state = 'running'`,
        jobId,
        owner,
      );
    },

    cancelJob(jobId: string, now: number): void {
      db.run(
        `UPDATE state.jobs SET state = 'cancelled', finished_at = ?
           WHERE id = ? AND state IN ('queued', 'running')`,
        now,
        jobId,
      );
    },

    interruptJobs(): void {
      db.run("UPDATE state.jobs SET state = 'queued' WHERE state = 'running'");
    },
  };
}
