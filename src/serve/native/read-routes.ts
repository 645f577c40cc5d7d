import { z } from 'zod';
import { IngotError } from '../../base/index.ts';
import { releaseMemory } from '../../bytes/index.ts';
import type { OpenChunk, OpenImage } from '../../keep/index.ts';
import { MAX_FEED_READ_BYTES } from '../../publish/index.ts';
import { AnswerPlaces } from './answer-places.ts';
import { readBody, streamOf } from './body.ts';
import { goneSignal } from './gone-signal.ts';
import type { HeldImages } from './held-images.ts';
import { BYTES_MEDIA_TYPE } from './ingest-routes.ts';
import {
  decodeIndices,
  encodePage,
  encodePages,
  MAX_WIRE_PAGE_ENTRIES,
  PAGE_MEDIA_TYPE,
  PAGES_MEDIA_TYPE,
} from './read-wire.ts';
import { imageParams, type NativeServer, type RouteContext } from './routes.ts';
import { encodeSegments, SEGMENTS_MEDIA_TYPE } from './segment-frames.ts';

/** Memory that is kept for later answers: one reader asks for so many at once. */
const MAX_SPARE = 3;

const pageParams = imageParams.extend({
  page: z.coerce
    .number()
    .int()
    .min(0)
    .max(2 ** 20),
});

/** Gives an image out chunk by chunk: for restores that fetch only what differs. */
export function readRoutes(server: NativeServer, context: RouteContext, held: HeldImages): void {
  const { access, clock, log, metrics } = context;
  const answers = new AnswerPlaces(clock, (count) => metrics.answersInMemory(count));
  const memory = new ReadMemory();
  server.get(
    '/images/:id/manifest',
    {
      schema: {
        summary: 'Lists the manifest pages of an image',
        tags: ['images'],
        params: imageParams,
        produces: [PAGES_MEDIA_TYPE],
      },
    },
    async (request, reply) => {
      const body = await held.use(access.caller(request), request.params.id, async (image) =>
        encodePages({
          sizeBytes: image.image.virtualSizeBytes,
          plainBytes: image.pages.map(({ plainBytes }) => plainBytes),
        }),
      );
      return reply.type(PAGES_MEDIA_TYPE).send(body);
    },
  );
  server.get(
    '/images/:id/manifest/:page',
    {
      schema: {
        summary: 'Gives the extents of one manifest page',
        tags: ['images'],
        params: pageParams,
        produces: [PAGE_MEDIA_TYPE],
      },
    },
    async (request, reply) => {
      const { id, page } = request.params;
      const body = await held.use(access.caller(request), id, async (image) => {
        checkPage(image, page);
        return encodePage(await image.page(page));
      });
      return reply.type(PAGE_MEDIA_TYPE).send(body);
    },
  );
  server.post(
    '/images/:id/chunks/:page',
    {
      schema: {
        summary: 'Gives chunks of one manifest page as segments, by their places in the page',
        tags: ['images'],
        params: pageParams,
        consumes: [BYTES_MEDIA_TYPE],
        produces: [SEGMENTS_MEDIA_TYPE],
      },
    },
    async (request, reply) => {
      const { id, page } = request.params;
      const limits = { maxBytes: 4 * MAX_WIRE_PAGE_ENTRIES, clock };
      const indices = decodeIndices(await readBody(streamOf(request), limits));
      const caller = access.caller(request);
      const { socket: connection } = request.raw;
      const gone = goneSignal(reply.raw);
      using place = await answers.enter({ clientId: caller.clientId, connection, gone });
      const body = await held.use(caller, id, (image) =>
        segmentsOf(image, { page, indices, memory }),
      );
      reply.hijack();
      reply.raw.writeHead(200, {
        'Content-Type': SEGMENTS_MEDIA_TYPE,
        'Content-Length': body.length,
      });
      try {
        await place.send(reply.raw, body);
        reply.raw.end();
        metrics.sentBytes(body.length);
        releaseMemory(body);
      } catch (thrown) {
        connection.destroy();
        if (!gone.aborted)
          log.warn('an answer was not sent', { image: id, reason: String(thrown) });
      }
    },
  );
}

function checkPage(image: OpenImage, page: number): void {
  if (page < image.pages.length) return;
  throw new IngotError('request-invalid', `${image.image.id} has no page ${page}`);
}

/** Memory that answers are put together from: 64 MB of new buffers cost a walk through the heap. */
class ReadMemory {
  readonly #spare: Buffer[] = [];

  async use<T>(work: (memory: Buffer) => Promise<T>): Promise<T> {
    const memory = this.#spare.pop() ?? Buffer.allocUnsafeSlow(MAX_FEED_READ_BYTES);
    try {
      return await work(memory);
    } finally {
      if (this.#spare.length < MAX_SPARE) this.#spare.push(memory);
    }
  }
}

/** What one request asks for. */
interface ChunksAsked {
  readonly page: number;
  readonly indices: readonly number[];
  readonly memory: ReadMemory;
}

async function segmentsOf(
  image: OpenImage,
  { page, indices, memory }: ChunksAsked,
): Promise<Buffer> {
  checkPage(image, page);
  const entries = await image.page(page);
  const chunks: OpenChunk[] = [];
  let plainBytes = 0;
  for (const index of indices) {
    const entry = entries[index];
    if (entry?.kind !== 'chunk') {
      throw new IngotError('request-invalid', `entry ${index} of page ${page} is no chunk`);
    }
    plainBytes += entry.lengthBytes;
    if (plainBytes > MAX_FEED_READ_BYTES) {
      throw new IngotError('request-too-large', `more than ${MAX_FEED_READ_BYTES} bytes at once`);
    }
    chunks.push(entry);
  }
  return await memory.use(async (room) => {
    const coded = await image.readCoded(chunks, undefined, room);
    const parts = encodeSegments(
      chunks.map((chunk, i) => ({
        digest: chunk.digest,
        plainBytes: chunk.lengthBytes,
        plainCrc32: chunk.plainCrc32,
        codedCrc32: chunk.codedCrc32,
        coded: coded[i] ?? Buffer.alloc(0),
      })),
    );
    return Buffer.concat(parts);
  });
}
