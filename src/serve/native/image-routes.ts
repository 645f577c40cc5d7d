import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import { type Id, isId } from '../../base/index.ts';
import type { AccountLibrary, ImageUpdate } from '../../keep/index.ts';
import type { ImageForm } from './backend.ts';
import { goneSignal } from './gone-signal.ts';
import { imageSchema, imageToWire } from './image-wire.ts';
import { imageArch, imageDescription, imageName } from './ingest-wire.ts';
import { FAILURE_ANSWERS, imageParams, type NativeServer, type RouteContext } from './routes.ts';
import { sendFile } from './send-file.ts';

const DEFAULT_PAGE = 1000;
const MAX_PAGE = 1000;

const pageQuery = z.object({
  after: z
    .custom<Id<'img'>>((text) => typeof text === 'string' && isId('img', text), 'is no image id')
    .optional(),
  limit: z.coerce.number().int().min(1).max(MAX_PAGE).default(DEFAULT_PAGE),
  status: z
    .preprocess(
      (given) => (given === undefined || Array.isArray(given) ? given : [given]),
      z
        .array(z.enum(['creating', 'available', 'deprecated', 'failed']))
        .max(8)
        .optional(),
    )
    .describe('Only images in one of these; by default those that can be read. Repeatable.'),
});

/** One page of images. */
export const imagePageSchema = z
  .object({
    images: z.array(imageSchema),
    next: z.string().nullable().describe('Ask the next page with `after` set to it.'),
  })
  .meta({ id: 'ImagePage' });

/** What an owner may change of an image. */
export const imageChangeSchema = z
  .strictObject({
    name: imageName.optional(),
    description: imageDescription.optional(),
    arch: imageArch.optional(),
    public: z.boolean().optional(),
    deprecated: z.boolean().optional(),
    compatibility_mode: z.boolean().optional(),
  })
  .meta({ id: 'ImageChange' });

const answers = { 200: imageSchema, ...FAILURE_ANSWERS };

/** Lists, shows, changes and destroys images. */
export function imageRoutes(server: NativeServer, context: RouteContext): void {
  const { backend, access } = context;
  const libraryFor = (request: FastifyRequest): AccountLibrary =>
    backend.library(access.caller(request));
  server.get(
    '/images',
    {
      schema: {
        summary: 'Lists images that the caller may see, in the order of their ids',
        tags: ['images'],
        querystring: pageQuery,
        response: { 200: imagePageSchema, ...FAILURE_ANSWERS },
      },
    },
    async (request) => {
      const { after, limit, status: statuses } = request.query;
      const images = await libraryFor(request).list({
        ...(after === undefined ? {} : { afterId: after }),
        ...(statuses === undefined ? {} : { statuses }),
        limit,
      });
      const next = images.length === limit ? (images.at(-1)?.id ?? null) : null;
      return { images: images.map(imageToWire), next };
    },
  );
  server.get(
    '/images/:id',
    {
      schema: {
        summary: 'Shows an image',
        tags: ['images'],
        params: imageParams,
        response: answers,
      },
    },
    async (request) => imageToWire(await libraryFor(request).show(request.params.id)),
  );
  server.patch(
    '/images/:id',
    {
      schema: {
        summary: 'Changes what is said of an image',
        tags: ['images'],
        params: imageParams,
        body: imageChangeSchema,
        response: answers,
      },
    },
    async (request) => {
      const image = await libraryFor(request).update(
        request.params.id,
        changeFromWire(request.body),
      );
      return imageToWire(image);
    },
  );
  server.delete(
    '/images/:id',
    {
      schema: {
        summary: 'Destroys an image',
        tags: ['images'],
        params: imageParams,
        response: answers,
      },
    },
    async (request) => {
      const library = libraryFor(request);
      const image = await library.show(request.params.id);
      await library.destroy(image.id);
      return imageToWire({ ...image, status: 'deleted' });
    },
  );
  server.post(
    '/images/:id/digest',
    {
      schema: {
        summary: 'Gives the SHA-256 of the plain disk; reads it back when nobody did before',
        tags: ['images'],
        params: imageParams,
        response: { 200: digestSchema, ...FAILURE_ANSWERS },
      },
    },
    async (request, reply) => {
      const gone = goneSignal(reply.raw);
      return { sha256: await libraryFor(request).plainDigest(request.params.id, gone) };
    },
  );
  for (const [verb, isLocked] of [
    ['lock', true],
    ['unlock', false],
  ] as const) {
    server.post(
      `/images/:id/${verb}`,
      {
        schema: {
          summary: isLocked ? 'Protects an image from being destroyed' : 'Ends the protection',
          tags: ['images'],
          params: imageParams,
          response: answers,
        },
      },
      async (request) => {
        return imageToWire(await libraryFor(request).update(request.params.id, { isLocked }));
      },
    );
  }
}

/** The digest of a whole disk. */
export const digestSchema = z.object({ sha256: z.string() }).meta({ id: 'Digest' });

/** What is left out stays as it is. */
function changeFromWire(wire: z.output<typeof imageChangeSchema>): ImageUpdate {
  const { public: isPublic, deprecated: isDeprecated, compatibility_mode: compat, ...texts } = wire;
  const given = {
    ...texts,
    isPublic,
    isDeprecated,
    compatibilityMode: compat,
  };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
}

/** Gives images out as files. */
export function downloadRoutes(server: NativeServer, context: RouteContext): void {
  const { backend, access, clock, log, metrics, digests, takeMemory } = context;
  const forms: readonly { readonly form: ImageForm; readonly mediaType: string }[] = [
    { form: 'raw', mediaType: 'application/octet-stream' },
    { form: 'gzip', mediaType: 'application/gzip' },
  ];
  for (const { form, mediaType } of forms) {
    server.route({
      method: ['GET', 'HEAD'],
      url: `/images/:id/${form}`,
      exposeHeadRoute: false,
      schema: {
        summary: `Downloads an image as ${form === 'raw' ? 'a raw disk' : 'one gzip member'}; Range, If-Range, ETag`,
        tags: ['images'],
        params: imageParams,
        produces: [mediaType],
      },
      handler: async (request, reply) => {
        const file = await backend.openFile(access.caller(request), request.params.id, form);
        const countBytes = (bytes: number): void => metrics.sentBytes(bytes);
        await sendFile(request, reply, file, {
          clock,
          log,
          countBytes,
          digests,
          takeMemory: takeMemory(request, form),
        });
      },
    });
  }
}
