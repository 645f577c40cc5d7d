import type { ServerResponse } from 'node:http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { type Clock, IngotError, type Log } from '../../base/index.ts';
import type { PublishedFile } from '../../publish/index.ts';
import { goneSignal } from './gone-signal.ts';
import { type ByteRange, ifRangeHolds, namesEtag, readRange } from './http-range.ts';
import { STALL_MS, stallGuard } from './stall-guard.ts';

interface SendContext {
  readonly clock: Clock;
  readonly log: Log;
  /** Counts what went out, for the metrics. */
  readonly countBytes: (bytes: number) => void;
}

/**
 * Answers a GET or HEAD with a file of an image: whole, a part, or "not changed".
 *
 * The file's large buffers go to the socket as they are; the next are read while one is under way. A
 * failure after the first byte cuts the connection, so that a short answer is never taken for a
 * whole one. The file is disposed here.
 *
 * @throws IngotError `range-not-satisfiable`, `content-changed`, before anything was sent
 * @see https://www.rfc-editor.org/rfc/rfc9110#section-13.2.2
 */
export async function sendFile(
  request: FastifyRequest,
  reply: FastifyReply,
  opened: PublishedFile,
  context: SendContext,
): Promise<void> {
  await using file = opened;
  const answer = chooseAnswer(request, file);
  const response = reply.raw;
  const headers = fileHeaders(file);
  if (answer.kind === 'not-modified') {
    reply.hijack();
    response.writeHead(304, { ETag: headers['ETag'], 'Cache-Control': headers['Cache-Control'] });
    response.end();
    return;
  }
  const range = answer.range ?? { startByte: 0, endByte: file.sizeBytes };
  if (answer.range !== undefined) {
    headers['Content-Range'] = `bytes ${range.startByte}-${range.endByte - 1}/${file.sizeBytes}`;
  }
  headers['Content-Length'] = range.endByte - range.startByte;
  reply.hijack();
  response.writeHead(answer.range === undefined ? 200 : 206, headers);
  if (request.method === 'HEAD') {
    response.end();
    return;
  }
  await streamRange(response, file, range, context);
}

type Answer =
  | { readonly kind: 'not-modified' }
  | { readonly kind: 'send'; readonly range?: ByteRange };

function chooseAnswer(request: FastifyRequest, file: PublishedFile): Answer {
  const { headers } = request;
  const ifMatch = headers['if-match'];
  if (ifMatch !== undefined && !namesEtag(ifMatch, file.etag)) {
    throw new IngotError('content-changed', `${file.name} is not what it was`, { etag: file.etag });
  }
  const ifNoneMatch = headers['if-none-match'];
  if (ifNoneMatch !== undefined && namesEtag(ifNoneMatch, file.etag))
    return { kind: 'not-modified' };
  const ifRange = headers['if-range'];
  const wanted = ifRangeHolds(typeof ifRange === 'string' ? ifRange : undefined, file.etag)
    ? readRange(headers.range, file.sizeBytes)
    : { kind: 'whole' as const };
  if (wanted.kind === 'unsatisfiable') {
    throw new IngotError('range-not-satisfiable', `${file.name} has ${file.sizeBytes} bytes`, {
      sizeBytes: file.sizeBytes,
    });
  }
  return wanted.kind === 'part' ? { kind: 'send', range: wanted.range } : { kind: 'send' };
}

function fileHeaders(file: PublishedFile): Record<string, string | number> {
  const headers: Record<string, string | number> = {
    'Content-Type': file.mediaType,
    'Accept-Ranges': 'bytes',
    ETag: `"${file.etag}"`,
    // Anything in between must neither compress nor keep it: the bytes are the file.
    'Cache-Control': 'private, no-transform',
    // An artifact has a name of a user's: only what every header and file system takes.
    'Content-Disposition': `attachment; filename="${file.name.replace(/[^\w.+-]/g, '_')}"`,
  };
  if (file.sha256 !== undefined) {
    headers['Repr-Digest'] = `sha-256=:${Buffer.from(file.sha256, 'hex').toString('base64')}:`;
  }
  return headers;
}

/** Sends buffers that are used again once the system has taken them. */
class Sender {
  readonly #response: ServerResponse;
  readonly #gone: AbortSignal;
  #sending: PromiseWithResolvers<void> | undefined;

  constructor(response: ServerResponse, gone: AbortSignal) {
    this.#response = response;
    this.#gone = gone;
    // One listener for all: an answer that waits for its turn may never hear of its writes.
    gone.addEventListener('abort', () => this.#sending?.reject(gone.reason), { once: true });
  }

  /** Waits until no byte of the buffer is needed any more. */
  async send(bytes: Uint8Array): Promise<void> {
    this.#gone.throwIfAborted();
    const sending = Promise.withResolvers<void>();
    this.#sending = sending;
    this.#response.write(bytes, (failure) => {
      if (failure) sending.reject(failure);
      else sending.resolve();
    });
    await sending.promise;
  }
}

/** What {@link sendStream} sends, and how it is watched. */
interface StreamContext extends SendContext {
  readonly read: (signal: AbortSignal) => AsyncIterable<Uint8Array>;
}

/**
 * Answers a GET or HEAD with bytes whose number nobody knows before their end.
 *
 * They go out in pieces of HTTP, of which the last one says that it is: an answer that was cut is
 * never taken for a whole one.
 */
export async function sendStream(
  request: FastifyRequest,
  reply: FastifyReply,
  file: Pick<PublishedFile, 'name' | 'mediaType'>,
  context: StreamContext,
): Promise<void> {
  const response = reply.raw;
  reply.hijack();
  response.writeHead(200, {
    'Content-Type': file.mediaType,
    'Accept-Ranges': 'none',
    'Cache-Control': 'private, no-transform',
    'Content-Disposition': `attachment; filename="${file.name}"`,
  });
  if (request.method === 'HEAD') {
    response.end();
    return;
  }
  await stream(response, file.name, context);
}

async function streamRange(
  response: ServerResponse,
  file: PublishedFile,
  range: ByteRange,
  context: SendContext,
): Promise<void> {
  const read: StreamContext['read'] = (gone) => file.read(range.startByte, range.endByte, gone);
  await stream(response, file.name, { ...context, read });
}

async function stream(
  response: ServerResponse,
  name: string,
  { read, clock, log, countBytes }: StreamContext,
): Promise<void> {
  const gone = goneSignal(response);
  using stall = stallGuard(clock, () => {
    response.destroy(new Error(`the receiver took nothing for ${STALL_MS} ms`));
  });
  try {
    const sender = new Sender(response, gone);
    for await (const bytes of read(gone)) {
      countBytes(bytes.byteLength);
      stall.start();
      await sender.send(bytes);
      stall.stop();
    }
    response.end();
  } catch (thrown) {
    response.destroy();
    if (gone.aborted) return;
    log.error('a download broke off', { file: name, reason: String(thrown) });
  }
}
