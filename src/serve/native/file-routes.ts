import { createHash } from 'node:crypto';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { type Digest, digestFromBytes, type Id } from '../../base/index.ts';
import { type PublishedFile, publishZstd } from '../../publish/index.ts';
import type { ImageForm } from './backend.ts';
import { goneSignal } from './gone-signal.ts';
import { imageParams, type NativeServer, type RouteContext } from './routes.ts';
import { sendFile, sendStream } from './send-file.ts';

/** Digests of `.gz` files that are remembered: 100 bytes each. */
const MAX_DIGESTS = 1000;
/** An id, and the name of a file that ends in what follows. */
const ID = '/images/:id(^img-[a-z0-9]{5})';

/**
 * Gives images out as files with names: `img-xxxxx.raw`, `.gz`, `.zst`, and their `.sha256` beside
 * them, as sha256sum has them.
 */
export function fileRoutes(server: NativeServer, context: RouteContext): void {
  const { backend, access, clock, log, metrics } = context;
  const countBytes = (bytes: number): void => metrics.sentBytes(bytes);
  const digests = new FileDigests();
  const open = (
    request: FastifyRequest<{ Params: { id: Id<'img'> } }>,
    form: ImageForm,
  ): Promise<PublishedFile> => backend.openFile(access.caller(request), request.params.id, form);

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
        await sendFile(request, reply, await open(request, form), { clock, log, countBytes });
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
            : await digests.of(await open(request, form));
        return sumLine(reply, digest, `${id}.${extension}`);
      },
    );
  }
  server.route({
    method: ['GET', 'HEAD'],
    url: `${ID}.zst`,
    exposeHeadRoute: false,
    schema: {
      summary: 'The disk as zstd, compressed while it is sent: no length, no Range',
      tags: ['files'],
      params: imageParams,
      produces: ['application/zstd'],
    },
    handler: async (request, reply) => {
      await using raw = await open(request, 'raw');
      const about = { name: `${request.params.id}.zst`, mediaType: 'application/zstd' };
      await sendStream(request, reply, about, {
        read: (signal) => publishZstd(raw, signal),
        clock,
        log,
        countBytes,
      });
    },
  });
}

function sumLine(reply: FastifyReply, digest: Digest, name: string): FastifyReply {
  return reply.type('text/plain').serializer(String).send(`${digest}  ${name}\n`);
}

/** Computes digests of files once, whoever asks, and remembers the newest of them. */
class FileDigests {
  readonly #known = new Map<string, Promise<Digest>>();

  /** @param file is disposed of here */
  async of(file: PublishedFile): Promise<Digest> {
    // The ETag tells the bytes: a healed chunk changes both.
    const known = this.#known.get(file.etag);
    if (known !== undefined) {
      await file[Symbol.asyncDispose]();
      return await known;
    }
    const computing = digestOf(file);
    this.#known.set(file.etag, computing);
    const [oldest] = this.#known.keys();
    if (this.#known.size > MAX_DIGESTS && oldest !== undefined) this.#known.delete(oldest);
    computing.catch(() => this.#known.delete(file.etag));
    return await computing;
  }
}

async function digestOf(file: PublishedFile): Promise<Digest> {
  await using opened = file;
  const hash = createHash('sha256');
  for await (const bytes of opened.read(0, opened.sizeBytes)) hash.update(bytes);
  return digestFromBytes(hash.digest());
}
