import { z } from 'zod';
import { clientListSchema, clientSchema, clientToWire, newClientSchema } from './client-wire.ts';
import { line } from './ingest-wire.ts';
import { clientParams, FAILURE_ANSWERS, type NativeServer, type RouteContext } from './routes.ts';

const createClient = z.strictObject({ name: line(255).min(1) }).meta({ id: 'CreateClient' });

/** Lists, shows, makes and destroys the API clients of the caller's account. */
export function clientRoutes(server: NativeServer, context: RouteContext): void {
  const { backend, access, log } = context;
  const { clients } = backend;
  const tags = ['clients'];
  const answers = { 200: clientSchema, ...FAILURE_ANSWERS };
  server.get(
    '/clients',
    {
      schema: {
        summary: "Lists the API clients of the caller's account, the oldest first",
        tags,
        response: { 200: clientListSchema, ...FAILURE_ANSWERS },
      },
    },
    async (request) => ({
      clients: (await clients.list(access.caller(request))).map(clientToWire),
    }),
  );
  server.get(
    '/clients/:id',
    { schema: { summary: 'Shows an API client', tags, params: clientParams, response: answers } },
    async (request) => clientToWire(await clients.show(access.caller(request), request.params.id)),
  );
  server.post(
    '/clients',
    {
      schema: {
        summary: 'Makes an API client; the answer alone has its secret',
        tags,
        body: createClient,
        response: { 201: newClientSchema, ...FAILURE_ANSWERS },
      },
    },
    async (request, reply) => {
      const caller = access.caller(request);
      const { client, secret } = await clients.create(caller, request.body.name);
      log.info('an API client was made', { clientId: client.id, by: caller.clientId });
      reply.header('cache-control', 'no-store');
      return reply.code(201).send({ ...clientToWire(client), secret });
    },
  );
  server.delete(
    '/clients/:id',
    {
      schema: {
        summary: 'Destroys an API client; its tokens end at once',
        tags,
        params: clientParams,
        response: answers,
      },
    },
    async (request) => {
      const caller = access.caller(request);
      const client = await clients.destroy(caller, request.params.id);
      log.info('an API client was destroyed', { clientId: client.id, by: caller.clientId });
      return clientToWire(client);
    },
  );
}
