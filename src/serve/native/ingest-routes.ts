import type { Readable } from 'node:stream';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { digestFromBytes, IngotError, isFailure } from '../../base/index.ts';
import type { Image, IngestSession } from '../../keep/index.ts';
import { limitedBody, readBody, streamOf } from './body.ts';
import { CommitMemory } from './commit-memory.ts';
import { imageSchema, imageToWire } from './image-wire.ts';
import { beginSchema, descriptionFromWire } from './ingest-wire.ts';
import { MANIFEST_MEDIA_TYPE, ManifestReader } from './manifest-stream.ts';
import { FAILURE_ANSWERS, ingestParams, type NativeServer, type RouteContext } from './routes.ts';
import { SegmentBodies } from './segment-bodies.ts';
import { decodeSegments, MAX_SEGMENTS_BODY_BYTES, SEGMENTS_MEDIA_TYPE } from './segment-frames.ts';

/** Digests in one question are never more. */
export const MAX_HAVE = 4096;
/** Media type of digests and of bitmaps. */
export const BYTES_MEDIA_TYPE = 'application/octet-stream';
/** A manifest of 2^25 entries: 2 TiB in chunks of 64 KiB. */
const MAX_MANIFEST_BYTES = 37 * 2 ** 25;

/** Takes images in: begin, have, segments, commit, abort. */
export function ingestRoutes(server: NativeServer, context: RouteContext): void {
  const { backend, access, clock, metrics } = context;
  const bodies = new SegmentBodies((lengthBytes) => backend.lend(lengthBytes), clock);
  const commits = new CommitMemory(clock);
  const closeAfterFailure = closesConnection();
  server.post(
    '/ingests',
    {
      schema: {
        summary: 'Begins an upload session',
        tags: ['ingests'],
        body: beginSchema,
        response: { 201: z.object({ id: z.string() }).meta({ id: 'Ingest' }), ...FAILURE_ANSWERS },
      },
    },
    async (request, reply) => {
      const caller = access.caller(request);
      const description = descriptionFromWire(request.body);
      const { id } = await backend.library(caller).begin(description);
      return reply.code(201).send({ id });
    },
  );
  server.post(
    '/ingests/:id/have',
    {
      onError: closeAfterFailure,
      schema: {
        summary: 'Asks which chunks need no upload: digests of 32 bytes become a bitmap',
        tags: ['ingests'],
        params: ingestParams,
        consumes: [BYTES_MEDIA_TYPE],
        produces: [BYTES_MEDIA_TYPE],
      },
    },
    async (request, reply) => {
      const body = await readBody(streamOf(request), { maxBytes: MAX_HAVE * 32, clock });
      if (body.byteLength % 32 !== 0) {
        throw new IngotError('request-invalid', `${body.byteLength} bytes are no digests`);
      }
      const digests = Array.from({ length: body.byteLength / 32 }, (_, i) =>
        digestFromBytes(body.subarray(i * 32, i * 32 + 32)),
      );
      const session = backend.library(access.caller(request)).ingest(request.params.id);
      const has = await session.have(digests);
      return reply.type(BYTES_MEDIA_TYPE).send(encodeBitmap(has));
    },
  );
  server.post(
    '/ingests/:id/segments',
    {
      onError: closeAfterFailure,
      schema: {
        summary: 'Delivers chunks, at most 4096 and 16 MiB coded in one body',
        tags: ['ingests'],
        params: ingestParams,
        consumes: [SEGMENTS_MEDIA_TYPE],
        response: { 204: z.undefined().meta({ description: 'Stored.' }), ...FAILURE_ANSWERS },
      },
    },
    async (request, reply) => {
      const session = backend.library(access.caller(request)).ingest(request.params.id);
      const length = Number(request.headers['content-length'] ?? MAX_SEGMENTS_BODY_BYTES);
      if (!(length <= MAX_SEGMENTS_BODY_BYTES)) {
        throw new IngotError(
          'request-too-large',
          `the body is above ${MAX_SEGMENTS_BODY_BYTES} bytes`,
        );
      }
      using body = await bodies.receive(streamOf(request), length);
      metrics.receivedBytes(body.bytes.byteLength);
      await session.put(decodeSegments(body.bytes));
      return reply.code(204).send();
    },
  );
  server.post(
    '/ingests/:id/commit',
    {
      onError: closeAfterFailure,
      schema: {
        summary: 'Makes the image; asking again gives the same image',
        tags: ['ingests'],
        params: ingestParams,
        consumes: [MANIFEST_MEDIA_TYPE],
        response: { 201: imageSchema, ...FAILURE_ANSWERS },
      },
    },
    async (request, reply) => {
      const caller = access.caller(request);
      const { id } = request.params;
      const image = await commits.once(caller, id, () =>
        commitFrom(streamOf(request), backend.library(caller).ingest(id)),
      );
      return reply.code(201).send(imageToWire(image));
    },
  );
  server.delete(
    '/ingests/:id',
    {
      schema: {
        summary: 'Gives an upload session up',
        tags: ['ingests'],
        params: ingestParams,
        response: { 204: z.undefined().meta({ description: 'Gone.' }), ...FAILURE_ANSWERS },
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      try {
        await backend.library(access.caller(request)).ingest(id).abort();
      } catch (thrown) {
        if (!isFailure(thrown, 'ingest-not-found')) throw thrown;
      }
      return reply.code(204).send();
    },
  );

  async function commitFrom(body: Readable, session: IngestSession): Promise<Image> {
    try {
      await using reader = new ManifestReader(
        limitedBody(body, { maxBytes: MAX_MANIFEST_BYTES, clock }),
      );
      const summary = await reader.summary();
      return await session.commit(reader.entries(), summary);
    } catch (thrown) {
      // Half a manifest may have been read: there is nothing to go on with.
      await session.abort();
      throw thrown;
    }
  }
}

/** Encodes answers as bits, the first in the lowest bit of the first byte. */
function encodeBitmap(bits: readonly boolean[]): Buffer {
  const bytes = Buffer.alloc(Math.ceil(bits.length / 8));
  for (const [i, bit] of bits.entries()) {
    if (bit) bytes[i >> 3] = (bytes[i >> 3] ?? 0) | (1 << (i & 7));
  }
  return bytes;
}

/** Decodes what {@link encodeBitmap} made. */
export function decodeBitmap(bytes: Uint8Array, count: number): boolean[] {
  return Array.from({ length: count }, (_, i) => ((bytes[i >> 3] ?? 0) & (1 << (i & 7))) !== 0);
}

/**
 * After a refused upload the rest of its body is not read, so the connection cannot be used again.
 */
function closesConnection() {
  return async (_request: FastifyRequest, reply: FastifyReply): Promise<void> => {
    reply.header('connection', 'close');
  };
}
