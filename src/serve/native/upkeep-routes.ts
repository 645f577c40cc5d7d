import { z } from 'zod';
import { type Id, IngotError } from '../../base/index.ts';
import type { Job } from '../../keep/index.ts';
import type { Caller } from './backend.ts';
import { jobSchema, jobToWire, scheduleToWire, statsSchema } from './job-wire.ts';
import {
  FAILURE_ANSWERS,
  imageParams,
  jobParams,
  type NativeServer,
  type RouteContext,
} from './routes.ts';

const MAX_JOBS = 200;

const jobsQuery = z.object({
  open: z.enum(['true', 'false']).optional().describe('Only what is queued or running, or over.'),
  limit: z.coerce.number().int().min(1).max(MAX_JOBS).default(50),
});

const accepted = { 202: jobSchema, ...FAILURE_ANSWERS };

/** Verifies, collects, backs up and counts; shows jobs and their progress. */
export function upkeepRoutes(server: NativeServer, context: RouteContext): void {
  libraryRoutes(server, context);
  jobRoutes(server, context);
}

function libraryRoutes(server: NativeServer, { backend, access }: RouteContext): void {
  const { upkeep } = backend;
  const operator = async (request: Parameters<typeof access.caller>[0]): Promise<void> => {
    if (await upkeep.isOperator(access.caller(request))) return;
    throw new IngotError('not-allowed', 'only the account that runs the daemon may do that');
  };
  server.get(
    '/library/stats',
    {
      schema: {
        summary: 'Counts what the library holds',
        tags: ['library'],
        response: { 200: statsSchema, ...FAILURE_ANSWERS },
      },
    },
    async (request) => {
      await operator(request);
      const counts = await upkeep.stats();
      return {
        images: counts.images,
        packs: counts.packs,
        pack_bytes: counts.packBytes,
        chunks: counts.chunks,
        live_bytes: counts.liveBytes,
        condemned_bytes: counts.condemnedBytes,
        quarantined_chunks: counts.quarantinedChunks,
        plain_bytes: counts.plainBytes,
        virtual_bytes: counts.virtualBytes,
        schedules: (await upkeep.schedules()).map(scheduleToWire),
      };
    },
  );
  server.post(
    '/library/verify',
    {
      schema: {
        summary: 'Reads everything back and compares it with its digests',
        tags: ['library'],
        response: accepted,
      },
    },
    async (request, reply) => {
      await operator(request);
      return reply.code(202).send(jobToWire(await upkeep.verify(undefined)));
    },
  );
  server.post(
    '/library/gc',
    {
      schema: {
        summary: 'Removes what no image needs',
        tags: ['library'],
        body: z
          .strictObject({ force: z.boolean().default(false) })
          .nullish()
          .meta({ description: '`force` goes on although more than 30 % would go.' }),
        response: accepted,
      },
    },
    async (request, reply) => {
      await operator(request);
      return reply.code(202).send(jobToWire(await upkeep.collect(request.body?.force ?? false)));
    },
  );
  server.post(
    '/library/backup',
    {
      schema: { summary: 'Copies the state of the library', tags: ['library'], response: accepted },
    },
    async (request, reply) => {
      await operator(request);
      return reply.code(202).send(jobToWire(await upkeep.backup()));
    },
  );
  server.post(
    '/images/:id/verify',
    {
      schema: {
        summary: 'Reads an image back and compares it with its digests',
        tags: ['images'],
        params: imageParams,
        response: accepted,
      },
    },
    async (request, reply) => {
      const caller = access.caller(request);
      const image = await backend.library(caller).show(request.params.id);
      const { accountId } = caller;
      return reply.code(202).send(jobToWire(await upkeep.verify({ imageId: image.id, accountId })));
    },
  );
}

function jobRoutes(server: NativeServer, { backend, access, log }: RouteContext): void {
  const { upkeep } = backend;
  /** Own jobs, and all for the operator; others are not there. */
  const mayWatch = async (caller: Caller, job: Job): Promise<boolean> =>
    job.accountId === caller.accountId || (await upkeep.isOperator(caller));
  const find = async (caller: Caller, id: Id<'job'>): Promise<Job> => {
    const job = await upkeep.jobs.show(id);
    if (await mayWatch(caller, job)) return job;
    throw new IngotError('job-not-found', `there is no job ${id}`);
  };
  server.get(
    '/jobs',
    {
      schema: {
        summary: 'Lists jobs, the newest first',
        tags: ['jobs'],
        querystring: jobsQuery,
        response: {
          200: z.object({ jobs: z.array(jobSchema) }).meta({ id: 'Jobs' }),
          ...FAILURE_ANSWERS,
        },
      },
    },
    async (request) => {
      const { open, limit } = request.query;
      const isOpen = open === undefined ? undefined : open === 'true';
      const caller = access.caller(request);
      const jobs: Job[] = [];
      for (const job of await upkeep.jobs.list({ isOpen, limit })) {
        if (await mayWatch(caller, job)) jobs.push(job);
      }
      return { jobs: jobs.map(jobToWire) };
    },
  );
  server.get(
    '/jobs/:id',
    {
      schema: {
        summary: 'Shows a job',
        tags: ['jobs'],
        params: jobParams,
        response: { 200: jobSchema, ...FAILURE_ANSWERS },
      },
    },
    async (request) => jobToWire(await find(access.caller(request), request.params.id)),
  );
  server.delete(
    '/jobs/:id',
    {
      schema: {
        summary: 'Stops a job for good',
        tags: ['jobs'],
        params: jobParams,
        response: { 200: jobSchema, ...FAILURE_ANSWERS },
      },
    },
    async (request) => {
      const { id } = request.params;
      await find(access.caller(request), id);
      await upkeep.jobs.cancel(id);
      return jobToWire(await upkeep.jobs.show(id));
    },
  );
  server.get(
    '/jobs/:id/events',
    {
      schema: {
        summary: 'Sends the job whenever it changed, until it is over (server-sent events)',
        tags: ['jobs'],
        params: jobParams,
        produces: ['text/event-stream'],
      },
    },
    async (request, reply) => {
      const { id } = await find(access.caller(request), request.params.id);
      reply.hijack();
      const response = reply.raw;
      const gone = new AbortController();
      response.once('close', () => gone.abort(new Error('the receiver went away')));
      response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
      try {
        for await (const job of upkeep.jobs.watch(id, gone.signal)) {
          response.write(`event: job\ndata: ${JSON.stringify(jobToWire(job))}\n\n`);
        }
        response.end();
      } catch (thrown) {
        response.destroy();
        if (!gone.signal.aborted) log.warn('a job was watched in vain', { reason: String(thrown) });
      }
    },
  );
}
