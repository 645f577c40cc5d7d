import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Digest, Id } from '../../base/index.ts';
import { type PublishedFile, type PublishedStream, publishZstd } from '../../publish/index.ts';
import type { ImageForm } from './backend.ts';
import { goneSignal } from './gone-signal.ts';
import { imageParams, type NativeServer, type RouteContext } from './routes.ts';
import { sendFile, sendStream } from './send-file.ts';

type ImageRequest = FastifyRequest<{ Params: { id: Id<'img'> } }>;

/** An id, and the name of a file that ends in what follows. */
const ID = '/images/:id(^img-[a-z0-9]{5})';

/**
 * Gives images out as files with names: `img-xxxxx.raw`, `.gz`, `.zst`, and their `.sha256` beside
 * them, as sha256sum has them.
 */
export function fileRoutes(server: NativeServer, context: RouteContext): void {
  const { backend, access, clock, log, metrics, zstdVersion, digests, takeMemory } = context;
  const sending = {
    clock,
    log,
    digests,
    countBytes: (bytes: number): void => metrics.sentBytes(bytes),
  };
  const open = (request: ImageRequest, form: ImageForm): Promise<PublishedFile> =>
    backend.openFile(access.caller(request), request.params.id, form);
  const openZstd = async (request: ImageRequest): Promise<PublishedStream> =>
    publishZstd(await open(request, 'raw'), { imageId: request.params.id, zstdVersion });

  for (const [extension, form, mediaType] of [
    ['raw', 'raw', 'application/octet-stream'],
    ['gz', 'gzip', 'application/gzip'],
  ] as const) {
    server.route({
      method: ['GET', 'HEAD'],
      url: `${ID}.${extension}`,
      exposeHeadRoute: false,
      schema: {
        summary: `The same as /images/ID/${form}`,
        tags: ['files'],
        params: imageParams,
        produces: [mediaType],
      },
      handler: async (request, reply) => {
        await sendFile(request, reply, await open(request, form), {
          ...sending,
          takeMemory: takeMemory(request, form),
        });
      },
    });
    server.get(
      `${ID}.${extension}.sha256`,
      {
        schema: {
          summary: 'The digest of that file as sha256sum has it; read back when nobody did before',
          tags: ['files'],
          params: imageParams,
          produces: ['text/plain'],
        },
      },
      async (request, reply) => {
        const gone = goneSignal(reply.raw);
        const { id } = request.params;
        const digest =
          form === 'raw'
            ? await backend.library(access.caller(request)).plainDigest(id, gone)
            : await digests.of(await open(request, form), (file) => file.read(0, file.sizeBytes));
        return sumLine(reply, digest, `${id}.${extension}`);
      },
    );
  }
  server.route({
    method: ['GET', 'HEAD'],
    url: `${ID}.zst`,
    exposeHeadRoute: false,
    schema: {
      summary:
        'The disk as zstd, compressed while it is sent: no Range, and no length before it was read once',
      tags: ['files'],
      params: imageParams,
      produces: ['application/zstd'],
    },
    handler: async (request, reply) => {
      await sendStream(request, reply, await openZstd(request), {
        ...sending,
        takeMemory: takeMemory(request, 'raw'),
      });
    },
  });
  server.get(
    `${ID}.zst.sha256`,
    {
      schema: {
        summary: 'The digest of that file as sha256sum has it; compressed for it where nobody did',
        tags: ['files'],
        params: imageParams,
        produces: ['text/plain'],
      },
    },
    async (request, reply) => {
      const digest = await digests.of(await openZstd(request), (file) => file.read());
      return sumLine(reply, digest, `${request.params.id}.zst`);
    },
  );
}

function sumLine(reply: FastifyReply, digest: Digest, name: string): FastifyReply {
  return reply.type('text/plain').serializer(String).send(`${digest}  ${name}\n`);
}
