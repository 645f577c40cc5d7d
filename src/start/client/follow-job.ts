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
import { readEvents } from './event-stream.ts';

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
  yield* readEvents(await client.call({ method: 'GET', path: `/jobs/${id}/events` }), jobSchema);
}
