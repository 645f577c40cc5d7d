import { type FailureCode, IngotError, isFailure, isFailureCode } from '../../base/index.ts';
import type { FilePlace } from '../../publish/index.ts';
import {
  outputEventSchema,
  type WireOutputEvent,
  type WireOutputOrder,
} from '../../serve/index.ts';
import type { DaemonClient } from './daemon-client.ts';
import { readEvents } from './event-stream.ts';
import { handOver } from './hand-over.ts';
import type { RemoteFile } from './image-stream.ts';

/** A daemon that says nothing for so long has gone away. */
const STALL_MS = 120_000;

/** Refusals after which the bytes are sent instead. */
const REFUSALS: readonly FailureCode[] = [
  'not-allowed',
  'request-invalid',
  'source-not-found',
  'target-too-small',
  'too-many-requests',
];

/** Bytes of an image's gzip member, and where they go. */
export interface OutputRequest {
  readonly file: RemoteFile;
  readonly startByte: number;
  readonly endByte: number;
  readonly place: FilePlace;
  readonly onProgress: (doneBytes: number) => void;
}

/**
 * Has a daemon of this machine write bytes of an image into a file that is open here: none of them
 * goes through a socket.
 *
 * @returns false where it does not, or went away before all of it was written: what it has written
 *   then are the right bytes at their places
 * @throws IngotError `content-changed`, `chunk-corrupt`, `target-full`, `target-unwritable`
 */
export async function writeByDaemon(
  client: DaemonClient,
  { file, startByte, endByte, place, onProgress }: OutputRequest,
): Promise<boolean> {
  try {
    const key = await handOver(client, [place.buffered, place.direct]);
    if (key === undefined) return false;
    const order: WireOutputOrder = {
      handover: { key, name: place.name },
      etag: file.etag,
      start_byte: startByte,
      end_byte: endByte,
      offset_bytes: place.offsetBytes,
    };
    for await (const event of events(client, file, order)) {
      if (event.state === 'failed') throw failureOf(event);
      onProgress(event.done_bytes);
      if (event.state === 'done') return event.done_bytes === endByte - startByte;
    }
    return false;
  } catch (thrown) {
    client.signal?.throwIfAborted();
    const isBreak = !(thrown instanceof IngotError) || isFailure(thrown, 'daemon-unreachable');
    if (isBreak || REFUSALS.some((code) => isFailure(thrown, code))) return false;
    throw thrown;
  }
}

async function* events(
  client: DaemonClient,
  { id, form }: RemoteFile,
  order: WireOutputOrder,
): AsyncGenerator<WireOutputEvent, void, undefined> {
  const answer = await client.call({
    method: 'POST',
    path: `/images/${id}/${form}/output`,
    headers: { 'content-type': 'application/json' },
    body: [Buffer.from(JSON.stringify(order))],
  });
  answer.setTimeout(STALL_MS, () => answer.destroy(new Error(`nothing came for ${STALL_MS} ms`)));
  yield* readEvents(answer, outputEventSchema);
}

function failureOf({ failure }: WireOutputEvent): IngotError {
  const { code = '', message = 'without a reason', facts = {} } = failure ?? {};
  if (isFailureCode(code)) return new IngotError(code, message, facts);
  return new IngotError('daemon-protocol', `the daemon did not write the file: ${message}`);
}
