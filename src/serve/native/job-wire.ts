import { z } from 'zod';
import { isoTime } from '../../base/index.ts';
import type { Job, ScheduleState } from '../../keep/index.ts';

/** Long work as the native API shows it. */
export const jobSchema = z
  .object({
    id: z.string(),
    kind: z.string(),
    subject: z.string().describe('What it works on: an image, or empty for the whole library.'),
    state: z.enum(['queued', 'running', 'done', 'failed', 'cancelled']),
    stage: z.string(),
    done_bytes: z.number(),
    total_bytes: z.number().nullable(),
    report: z.unknown().describe('What came of it, once it is done.'),
    failure: z.string().nullable().describe('Why it failed.'),
    created_at: z.iso.datetime(),
    finished_at: z.iso.datetime().nullable(),
  })
  .meta({ id: 'Job', description: 'Long work that survives a restart.' });

/** A job on the wire. */
export type WireJob = z.infer<typeof jobSchema>;

/** Maps a job to its wire form. */
export function jobToWire(job: Job): WireJob {
  return {
    id: job.id,
    kind: job.kind,
    subject: job.subject,
    state: job.state,
    stage: job.stage,
    done_bytes: job.doneBytes,
    total_bytes: job.totalBytes ?? null,
    report: job.state === 'done' ? reportOf(job.outcome) : null,
    failure: job.state === 'failed' ? job.outcome : null,
    created_at: isoTime(job.createdAt),
    finished_at: job.finishedAt === undefined ? null : isoTime(job.finishedAt),
  };
}

function reportOf(outcome: string): unknown {
  try {
    return JSON.parse(outcome);
  } catch {
    // A report of an older version is shown as the text that it is.
    return outcome;
  }
}

/** Maps a schedule to its wire form. */
export function scheduleToWire(
  state: ScheduleState,
): z.infer<typeof statsSchema>['schedules'][number] {
  const { kind, pattern, nextAt, last } = state;
  return {
    kind,
    pattern,
    next_at: nextAt === undefined ? null : isoTime(nextAt),
    last_at: last === undefined ? null : isoTime(last.createdAt),
    last_state: last?.state ?? null,
  };
}

/** What the library holds, in numbers. */
export const statsSchema = z
  .object({
    images: z.number(),
    packs: z.number(),
    pack_bytes: z.number(),
    chunks: z.number(),
    live_bytes: z.number(),
    condemned_bytes: z.number(),
    quarantined_chunks: z.number(),
    plain_bytes: z.number(),
    virtual_bytes: z.number(),
    schedules: z.array(
      z.object({
        kind: z.string(),
        pattern: z.string().describe('As cron has it, in the time zone of the daemon.'),
        next_at: z.iso.datetime().nullable(),
        last_at: z.iso.datetime().nullable(),
        last_state: z.string().nullable(),
      }),
    ),
  })
  .meta({ id: 'LibraryStats' });
