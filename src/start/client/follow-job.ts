import {
  type Id,
  IngotError,
  isFailure,
  isId,
  type OnProgress,
  systemClock,
} from '../../base/index.ts';
import { jobSchema, type WireJob } from '../../serve/index.ts';
import type { ApiCall, DaemonClient } from './daemon-client.ts';

const MAX_EVENT_CHARACTERS = 1024 * 1024;
const PAUSE_MS = 1000;
/** Times in a row that the daemon may be away while a job is watched. */
const MAX_BREAKS = 30;

/** Starts long work and waits for its end. */
export async function runJob(
  client: DaemonClient,
  call: ApiCall,
  options: { readonly body?: unknown; readonly onProgress: OnProgress },
): Promise<WireJob> {
  const job = await client.json(jobSchema, call, options.body);
  if (!isId('job', job.id)) throw new IngotError('daemon-protocol', `${job.id} is no job`);
  return await followJob(client, job.id, options.onProgress);
}

/**
 * Waits for the end of a job, also across a restart of its daemon.
 *
 * @returns the job as it ended
 * @throws IngotError `job-not-found`, `daemon-unreachable`
 */
export async function followJob(
  client: DaemonClient,
  id: Id<'job'>,
  onProgress: OnProgress,
): Promise<WireJob> {
  for (let breaks = 0; ; breaks++) {
    try {
      for await (const job of events(client, id)) {
        breaks = 0;
        if (job.state !== 'queued' && job.state !== 'running') return job;
        onProgress({
          doneBytes: job.done_bytes,
          totalBytes: job.total_bytes ?? undefined,
          stage: job.stage === '' ? job.state : job.stage,
        });
      }
    } catch (thrown) {
      client.signal?.throwIfAborted();
      const isBreak = !(thrown instanceof IngotError) || isFailure(thrown, 'daemon-unreachable');
      if (!isBreak || breaks >= MAX_BREAKS) throw thrown;
    }
    await systemClock.sleep(PAUSE_MS, client.signal);
  }
}

async function* events(
  client: DaemonClient,
  id: Id<'job'>,
): AsyncGenerator<WireJob, void, undefined> {
  const answer = await client.call({ method: 'GET', path: `/jobs/${id}/events` });
  try {
    let text = '';
    for await (const piece of answer) {
      text += (piece as Buffer).toString('utf8');
      if (text.length > MAX_EVENT_CHARACTERS) {
        throw new IngotError('daemon-protocol', 'an event of a job is too long');
      }
      const parts = text.split('\n\n');
      text = parts.pop() ?? '';
      for (const part of parts) yield jobOf(part);
    }
  } finally {
    answer.destroy();
  }
}

function jobOf(event: string): WireJob {
  const data = /^data: (.*)$/m.exec(event)?.[1];
  const parsed = jobSchema.safeParse(data === undefined ? undefined : JSON.parse(data));
  if (parsed.success) return parsed.data;
  throw new IngotError('daemon-protocol', 'the daemon sent something that is no job');
}
