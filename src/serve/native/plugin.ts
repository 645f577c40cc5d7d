import swagger from '@fastify/swagger';
import type { FastifyPluginAsync, FastifyRequest } from 'fastify';
import {
  createJsonSchemaTransform,
  jsonSchemaTransformObject,
  serializerCompiler,
  validatorCompiler,
  type ZodTypeProvider,
} from 'fastify-type-provider-zod';
import type { Clock, Log } from '../../base/index.ts';
import { Access } from './access.ts';
import { artifactRoutes } from './artifact-routes.ts';
import type { NativeBackend } from './backend.ts';
import { clientRoutes } from './client-routes.ts';
import { DOWNLOAD_BYTES, DownloadMemory } from './download-memory.ts';
import { failureAnswer, nothingHere } from './failure-answer.ts';
import { FileDigests } from './file-digests.ts';
import { fileRoutes } from './file-routes.ts';
import { HeldImages } from './held-images.ts';
import { downloadRoutes, imageRoutes } from './image-routes.ts';
import { importRoutes } from './import-routes.ts';
import { BYTES_MEDIA_TYPE, ingestRoutes } from './ingest-routes.ts';
import { MANIFEST_MEDIA_TYPE } from './manifest-stream.ts';
import { outputRoutes } from './output-routes.ts';
import { readRoutes } from './read-routes.ts';
import type { NativeMetrics, RouteContext } from './routes.ts';
import { SEGMENTS_MEDIA_TYPE } from './segment-frames.ts';
import { tokenRoutes } from './token-routes.ts';
import { TokenIssuer } from './tokens.ts';
import { upkeepRoutes } from './upkeep-routes.ts';

/** What the native API needs. */
export interface NativeOptions {
  readonly backend: NativeBackend;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: NativeMetrics;
  /** Signs tokens: at least 32 random bytes that stay on this machine. */
  readonly tokenSecret: Uint8Array;
  /** Version of the program, for the schema. */
  readonly version: string;
  /** Version of the library that compresses `.zst`: another one may give other bytes. */
  readonly zstdVersion: string;
  /** Base of absolute URLs, for the schema. */
  readonly publicUrl: string | undefined;
}

/**
 * The native API as one encapsulated plugin: its own body parsers, error form and access hook touch
 * no other protocol on the same port.
 *
 * @see docs/api.md, docs/formats/native-wire.md
 */
export const nativeApi: FastifyPluginAsync<NativeOptions> = async (outer, options) => {
  const server = outer.withTypeProvider<ZodTypeProvider>();
  const { backend, clock, log, metrics, zstdVersion } = options;
  const access = new Access(backend, new TokenIssuer(options.tokenSecret, clock), clock);
  const held = new HeldImages(clock, (caller, id) => backend.library(caller).open(id));
  const digests = new FileDigests();
  const memory = new DownloadMemory();
  const takeMemory: RouteContext['takeMemory'] = (request, form) => (lengthBytes) =>
    memory.take(
      access.caller(request).clientId,
      Math.min(lengthBytes ?? Number.POSITIVE_INFINITY, DOWNLOAD_BYTES[form]),
    );
  const services = { backend, access, clock, log, metrics };
  const context: RouteContext = { ...services, zstdVersion, digests, takeMemory };

  server.setValidatorCompiler(validatorCompiler);
  server.setSerializerCompiler(serializerCompiler);
  acceptBodies(outer);
  outer.setErrorHandler((thrown, request, reply) => {
    const answer = failureAnswer(thrown);
    if (answer.isBug) {
      const text = thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
      log.error('a request ended in a bug', { requestId: request.id, stack: text });
    }
    if (isBodyUnread(request)) reply.header('connection', 'close');
    const offset = answer.body.error.facts['offsetBytes'];
    if (answer.body.error.code === 'offset-mismatch' && offset !== undefined)
      reply.header('upload-offset', offset);
    if (answer.status === 401) reply.header('www-authenticate', 'Bearer realm="ingot"');
    const wait = answer.body.error.facts['retryAfterSeconds'];
    if (wait !== undefined) reply.header('retry-after', wait);
    const size = answer.body.error.facts['sizeBytes'];
    if (answer.status === 416 && size !== undefined)
      reply.header('content-range', `bytes */${size}`);
    void reply
      .code(answer.status)
      .serializer(JSON.stringify)
      .type('application/json')
      .send(answer.body);
  });
  outer.setNotFoundHandler((request, reply) => {
    const answer = nothingHere(request.method, new URL(request.url, 'http://localhost').pathname);
    void reply.code(answer.status).send(answer.body);
  });
  outer.addHook('onClose', () => held[Symbol.asyncDispose]());

  await describe(outer, options);
  tokenRoutes(server, context);
  await server.register(async (closed) => {
    closed.addHook('onRequest', (request) => access.admit(request));
    const routes = closed.withTypeProvider<ZodTypeProvider>();
    imageRoutes(routes, context);
    downloadRoutes(routes, context);
    fileRoutes(routes, context);
    artifactRoutes(routes, context);
    outputRoutes(routes, context);
    ingestRoutes(routes, context);
    readRoutes(routes, context, held);
    upkeepRoutes(routes, context);
    clientRoutes(routes, context);
    await routes.register(async (bytes) => importRoutes(bytes.withTypeProvider(), context));
  });
  outer.get('/openapi.json', { schema: { hide: true } }, () => outer.swagger());
};

/** After a refused upload the rest of its body is not read: the connection cannot be used again. */
function isBodyUnread({ raw, headers }: FastifyRequest): boolean {
  const hasBody =
    headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
  return hasBody && !raw.complete;
}

/** JSON may be empty; binary bodies stay streams, so limits are counted where they are read. */
function acceptBodies(server: Parameters<FastifyPluginAsync>[0]): void {
  server.removeAllContentTypeParsers();
  server.addContentTypeParser('application/json', { parseAs: 'string' }, (_request, body, done) => {
    if (body.length === 0) {
      done(null, undefined);
      return;
    }
    try {
      done(null, JSON.parse(body.toString()));
    } catch {
      const refused: Error & { statusCode?: number } = new Error('the body is no JSON');
      refused.statusCode = 400;
      done(refused, undefined);
    }
  });
  server.addContentTypeParser(
    'application/x-www-form-urlencoded',
    { parseAs: 'string', bodyLimit: 8192 },
    (_request, body, done) => {
      done(null, Object.fromEntries(new URLSearchParams(body.toString())));
    },
  );
  server.addContentTypeParser(
    [BYTES_MEDIA_TYPE, SEGMENTS_MEDIA_TYPE, MANIFEST_MEDIA_TYPE],
    (_request, payload, done) => done(null, payload),
  );
}

const BINARY = { type: 'string', format: 'binary' } as const;

/** OpenAPI 3.1 of everything in this plugin, made from the schemas that check the requests. */
async function describe(
  server: Parameters<FastifyPluginAsync>[0],
  { version, publicUrl }: NativeOptions,
): Promise<void> {
  const transform = createJsonSchemaTransform({});
  await server.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Ingot native API',
        description:
          'Images in and out of the library. Failures are those of docs/reference/errors.md.',
        version,
      },
      servers: [{ url: publicUrl ?? '/' }],
      components: { securitySchemes: { token: { type: 'http', scheme: 'bearer' } } },
      security: [{ token: [] }],
    },
    transform: (input) => {
      const made = transform(input);
      const schema: Record<string, unknown> = { ...made.schema };
      if (input.schema.consumes !== undefined) schema['body'] = BINARY;
      if (input.schema.produces !== undefined) {
        const [type = ''] = input.schema.produces;
        schema['response'] = {
          200: { description: 'The bytes.', content: { [type]: { schema: BINARY } } },
        };
      }
      return { ...made, schema };
    },
    transformObject: jsonSchemaTransformObject,
  });
}
