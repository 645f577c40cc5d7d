import { Readable } from 'node:stream';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { IngotError } from '../../base/index.ts';
import type { AccountImports, ImportRequest, UploadState } from '../../keep/index.ts';
import type { Caller } from './backend.ts';
import { limitedBody, streamOf } from './body.ts';
import {
  createImportSchema,
  handoverSchema,
  importFromWire,
  importSchema,
  importToWire,
  uploadQuery,
} from './import-wire.ts';
import { FAILURE_ANSWERS, imageParams, type NativeServer, type RouteContext } from './routes.ts';
import { uploadPartOf } from './upload-part.ts';

/** Uploads that one client may send at once. */
const UPLOADS_PER_CLIENT = 4;

/** A body of bytes, or what is said of an upload that comes later. */
const createBody = z.union([
  createImportSchema,
  z.custom<Readable>((body) => body instanceof Readable, 'is neither JSON nor an image'),
]);

const accepted = { 201: importSchema, 202: importSchema, ...FAILURE_ANSWERS };

/**
 * Takes images as bytes from any HTTP client: whole in one request, or piece by piece.
 *
 * @see docs/imports.md
 */
export function importRoutes(server: NativeServer, context: RouteContext): void {
  // Bodies are images, whatever a client calls them; curl says `x-www-form-urlencoded`.
  server.removeContentTypeParser('application/x-www-form-urlencoded');
  server.addContentTypeParser('*', (_request, payload, done) => done(null, payload));
  const receiver = new Receiver(context);
  createRoutes(server, context, receiver);
  uploadRoutes(server, context, receiver);
}

function createRoutes(server: NativeServer, context: RouteContext, receiver: Receiver): void {
  const { backend, access } = context;
  server.post(
    '/images',
    {
      schema: {
        summary:
          'Makes an image of the body; with JSON, of a URL or of what is uploaded afterwards',
        tags: ['imports'],
        querystring: uploadQuery.partial(),
        body: createBody,
        response: accepted,
      },
    },
    async (request, reply) => {
      const { body } = request;
      if (body instanceof Readable) {
        const query = uploadQuery.parse(request.query);
        return answer(reply, await receiver.whole(request, reply, requestOf(query)));
      }
      const imports = backend.imports(access.caller(request));
      return answer(reply, await imports.begin(importFromWire(body)));
    },
  );
  server.post(
    '/handovers',
    {
      schema: {
        summary: 'Offers a socket where a process of this machine leaves an open file',
        tags: ['imports'],
        response: { 201: handoverSchema, ...FAILURE_ANSWERS },
      },
    },
    async (request, reply) => reply.code(201).send(backend.imports(access.caller(request)).offer()),
  );
  server.put(
    '/images',
    {
      schema: {
        summary: 'Makes an image of the body: curl -T FILE',
        tags: ['imports'],
        querystring: uploadQuery,
        consumes: ['application/octet-stream'],
        response: accepted,
      },
    },
    async (request, reply) =>
      answer(reply, await receiver.whole(request, reply, requestOf(request.query))),
  );
}

function uploadRoutes(server: NativeServer, context: RouteContext, receiver: Receiver): void {
  const { backend, access } = context;
  const url = '/images/:id/upload';
  server.route({
    method: 'HEAD',
    url,
    schema: {
      summary: 'Tells in Upload-Offset where an upload goes on',
      tags: ['imports'],
      params: imageParams,
    },
    handler: async (request, reply) => {
      const state = await backend.imports(access.caller(request)).state(request.params.id);
      return stateHeaders(reply, state).code(204).send();
    },
  });
  for (const method of ['PATCH', 'PUT'] as const) {
    server.route({
      method,
      url,
      schema: {
        summary:
          method === 'PUT'
            ? 'Uploads from the beginning, or from Content-Range on: curl -C OFFSET -T FILE'
            : 'Adds to an upload from Upload-Offset on; Upload-Complete: ?1 ends it',
        tags: ['imports'],
        params: imageParams,
        consumes: ['application/octet-stream'],
        response: { 200: importSchema, ...accepted },
      },
      handler: async (request, reply) =>
        answer(reply, await receiver.part(request, request.params.id), 200),
    });
  }
  server.delete(
    url,
    {
      schema: {
        summary: 'Gives an upload up; its image is `failed`',
        tags: ['imports'],
        params: imageParams,
        response: { 204: z.undefined().meta({ description: 'Gone.' }), ...FAILURE_ANSWERS },
      },
    },
    async (request, reply) => {
      await backend.imports(access.caller(request)).cancel(request.params.id);
      return reply.code(204).send();
    },
  );
}

/** Takes bodies of uploads, a few per client at once. */
class Receiver {
  readonly #context: RouteContext;
  readonly #sending = new Map<Caller['clientId'], number>();

  constructor(context: RouteContext) {
    this.#context = context;
  }

  whole(request: FastifyRequest, reply: FastifyReply, about: ImportRequest): Promise<UploadState> {
    return this.#take(request, (imports, body) =>
      imports.upload(about, body, uploadPartOf('PUT', wholeOnly(request)), (imageId) =>
        tellPlace(request, reply, imageId),
      ),
    );
  }

  part(
    request: FastifyRequest,
    imageId: Parameters<AccountImports['state']>[0],
  ): Promise<UploadState> {
    return this.#take(request, (imports, body) =>
      imports.receive(imageId, body, uploadPartOf(request.method, request.headers)),
    );
  }

  async #take(
    request: FastifyRequest,
    work: (imports: AccountImports, body: AsyncIterable<Buffer>) => Promise<UploadState>,
  ): Promise<UploadState> {
    const { access, backend, clock } = this.#context;
    const caller = access.caller(request);
    const count = this.#sending.get(caller.clientId) ?? 0;
    if (count >= UPLOADS_PER_CLIENT) {
      throw new IngotError(
        'too-many-requests',
        `${caller.clientId} sends ${count} uploads already`,
        { count, retryAfterSeconds: 60 },
      );
    }
    this.#sending.set(caller.clientId, count + 1);
    try {
      const stream = bodyOf(request);
      // How much is taken is the library's to say.
      const body = limitedBody(stream, { maxBytes: Number.MAX_SAFE_INTEGER, clock });
      return await work(backend.imports(caller), this.#counted(body));
    } finally {
      const left = (this.#sending.get(caller.clientId) ?? 1) - 1;
      if (left === 0) this.#sending.delete(caller.clientId);
      else this.#sending.set(caller.clientId, left);
    }
  }

  async *#counted(body: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void, undefined> {
    for await (const bytes of body) {
      this.#context.metrics.receivedBytes(bytes.byteLength);
      yield bytes;
    }
  }
}

/** An absent body is an empty one: the last word of an upload may have no bytes. */
function bodyOf(request: FastifyRequest): Readable {
  return request.body === undefined || request.body === null
    ? Readable.from([])
    : streamOf(request);
}

/** A part of something that nobody knows makes no image. */
function wholeOnly({ headers }: FastifyRequest): FastifyRequest['headers'] {
  if (headers['content-range'] === undefined && headers['upload-offset'] === undefined) {
    return { ...headers, 'upload-complete': '?1' };
  }
  throw new IngotError('request-invalid', 'a part of an upload belongs to /images/ID/upload');
}

function requestOf(query: z.output<typeof uploadQuery>): ImportRequest {
  const { name } = query;
  if (name === undefined) throw new IngotError('request-invalid', 'the query has no name');
  return importFromWire({ ...query, name, ancestor_id: null, compatibility_mode: false });
}

function stateHeaders(reply: FastifyReply, state: UploadState): FastifyReply {
  reply.header('upload-offset', state.offsetBytes);
  reply.header('upload-complete', state.isReceiving ? '?0' : '?1');
  if (state.sizeBytes !== undefined) reply.header('upload-length', state.sizeBytes);
  return reply.header('cache-control', 'no-store');
}

/**
 * Tells where an upload in one request goes on if it breaks: an interim answer, and only to a client
 * that shows that it knows resumable uploads. Others take any interim answer but 100 for the last one.
 *
 * @see draft-ietf-httpbis-resumable-upload section 4.2
 */
function tellPlace({ headers }: FastifyRequest, reply: FastifyReply, imageId: string): void {
  if (headers['upload-complete'] === undefined) return;
  const location = `${baseOf(reply)}/images/${imageId}/upload`;
  reply.raw.socket?.write(
    `HTTP/1.1 104 Upload Resumption Supported\r\nLocation: ${location}\r\n\r\n`,
  );
}

/** The path of the API, as the client named it. */
function baseOf(reply: FastifyReply): string {
  return reply.request.url.replace(/\/images(?:[/?].*)?$/, '');
}

/** 202 once all has arrived; before that, where to go on. */
function answer(
  reply: FastifyReply,
  state: UploadState,
  unfinished: 200 | 201 = 201,
): ReturnType<typeof importToWire> {
  const path = `images/${state.image.id}`;
  stateHeaders(reply, state);
  reply.header('location', `${baseOf(reply)}/${path}${state.isReceiving ? '/upload' : ''}`);
  reply.code(state.isReceiving ? unfinished : 202);
  return importToWire(state);
}
