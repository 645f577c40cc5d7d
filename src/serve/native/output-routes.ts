import type { ServerResponse } from 'node:http';
import { IngotError, MIB } from '../../base/index.ts';
import type { HandedOutput } from '../../keep/index.ts';
import type { PublishedFile } from '../../publish/index.ts';
import { failureAnswer } from './failure-answer.ts';
import { goneSignal } from './gone-signal.ts';
import { namesEtag } from './http-range.ts';
import { outputOrderSchema, type WireOutputEvent, type WireOutputOrder } from './output-wire.ts';
import { imageParams, type NativeServer, type RouteContext } from './routes.ts';

/** An event is told after so many bytes, or a hundredth of them all: nobody waits for its reader. */
const EVENT_BYTES = 16 * MIB;

/**
 * Writes a part of an image's gzip member into a file that a process of this machine has open.
 *
 * @see docs/formats/native-wire.md "Handing an output over"
 */
export function outputRoutes(server: NativeServer, context: RouteContext): void {
  const { backend, access } = context;
  server.post(
    '/images/:id/gzip/output',
    {
      schema: {
        summary:
          'Writes a part of the gzip member into a file that was handed over (server-sent events)',
        tags: ['images'],
        params: imageParams,
        body: outputOrderSchema,
        produces: ['text/event-stream'],
      },
    },
    async (request, reply) => {
      const caller = access.caller(request);
      const { body: order } = request;
      const { key, name } = order.handover;
      await using file = await backend.openFile(caller, request.params.id, 'gzip');
      await using output = await backend.imports(caller).takeOutput(key, name);
      checkOrder(order, file, output);
      reply.hijack();
      await deliver(reply.raw, { order, file, output }, context);
    },
  );
}

/** An order and what it is about. */
interface Delivery {
  readonly order: WireOutputOrder;
  readonly file: PublishedFile;
  readonly output: HandedOutput;
}

function checkOrder(order: WireOutputOrder, file: PublishedFile, output: HandedOutput): void {
  if (!namesEtag(`"${order.etag}"`, file.etag)) {
    throw new IngotError('content-changed', `${file.name} is not what it was`, { etag: file.etag });
  }
  const { start_byte: startByte, end_byte: endByte } = order;
  if (startByte > endByte || endByte > file.sizeBytes) {
    throw new IngotError('range-not-satisfiable', `${file.name} has ${file.sizeBytes} bytes`, {
      sizeBytes: file.sizeBytes,
    });
  }
  const neededBytes = order.offset_bytes + endByte - startByte;
  if (neededBytes > output.sizeBytes) {
    throw new IngotError(
      'target-too-small',
      `${order.handover.name} has space for ${output.sizeBytes} bytes, not ${neededBytes}`,
      { sizeBytes: output.sizeBytes, neededBytes },
    );
  }
}

/** Ends with the connection: whoever handed the file over goes away with it. */
async function deliver(
  response: ServerResponse,
  { order, file, output }: Delivery,
  { log, metrics }: RouteContext,
): Promise<void> {
  const gone = goneSignal(response);
  response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
  const { start_byte: startByte, end_byte: endByte } = order;
  const stepBytes = Math.max(EVENT_BYTES, Math.floor((endByte - startByte) / 100));
  let doneBytes = 0;
  const tell = (state: WireOutputEvent['state'], failure: WireOutputEvent['failure']): void => {
    const event: WireOutputEvent = { state, done_bytes: doneBytes, failure };
    response.write(`event: output\ndata: ${JSON.stringify(event)}\n\n`);
  };
  try {
    let toldBytes = 0;
    for await (const bytes of file.read(startByte, endByte, gone)) {
      gone.throwIfAborted();
      await output.write(bytes, order.offset_bytes + doneBytes);
      doneBytes += bytes.byteLength;
      metrics.sentBytes(bytes.byteLength);
      if (doneBytes - toldBytes < stepBytes) continue;
      toldBytes = doneBytes;
      tell('running', null);
    }
    await output.flush();
    // Whoever hears that it is done may unmount the filesystem.
    await output[Symbol.asyncDispose]();
    tell('done', null);
  } catch (thrown) {
    if (!gone.aborted) {
      await output[Symbol.asyncDispose]();
      log.error('a file was not written to its end', { file: file.name, reason: String(thrown) });
      tell('failed', failureAnswer(thrown).body.error);
    }
  }
  response.end();
}
