import type { OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { type Clock, IngotError, type Log } from '../../base/index.ts';
import type { PublishedFile, PublishedStream } from '../../publish/index.ts';
import { CountedHash, type FileDigests } from './file-digests.ts';
import { goneSignal } from './gone-signal.ts';
import { type ByteRange, ifRangeHolds, namesEtag, readRange } from './http-range.ts';
import { Sender } from './sender.ts';
import { STALL_MS, stallGuard } from './stall-guard.ts';

const REPR_DIGEST = 'Repr-Digest';

interface SendContext {
  /**
   * Takes memory for an answer of a length, undefined when nobody knows it.
   *
   * @throws IngotError `too-many-requests`
   */
  readonly takeMemory: (lengthBytes: number | undefined) => Disposable;
  readonly clock: Clock;
  readonly log: Log;
  /** Counts what went out, for the metrics. */
  readonly countBytes: (bytes: number) => void;
  /** What is known of files that do not know their digests themselves. */
  readonly digests?: FileDigests;
}

/**
 * Answers a GET or HEAD with a file of an image: whole, a part, or "not changed".
 *
 * The file's large buffers go to the socket as they are; the next are read while one is under way. A
 * failure after the first byte cuts the connection, so that a short answer is never taken for a
 * whole one. The file is disposed here.
 *
 * @throws IngotError `range-not-satisfiable`, `content-changed`, `too-many-requests`, before anything
 *   was sent
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
  const sha256 = file.sha256 ?? context.digests?.known(file.etag)?.digest;
  const headers: OutgoingHttpHeaders = { ...fileHeaders(file, sha256), 'Accept-Ranges': 'bytes' };
  if (answer.kind === 'not-modified') {
    sayNotModified(reply, headers);
    return;
  }
  const range = answer.range ?? { startByte: 0, endByte: file.sizeBytes };
  if (answer.range !== undefined) {
    headers['Content-Range'] = `bytes ${range.startByte}-${range.endByte - 1}/${file.sizeBytes}`;
  }
  const lengthBytes = range.endByte - range.startByte;
  headers['Content-Length'] = lengthBytes;
  using _memory = context.takeMemory(request.method === 'HEAD' ? 0 : lengthBytes);
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
  if (isNotModified(request, file)) return { kind: 'not-modified' };
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

/** @throws IngotError `content-changed` when the request wants another file */
function isNotModified(
  { headers }: FastifyRequest,
  file: Pick<PublishedFile, 'name' | 'etag'>,
): boolean {
  const ifMatch = headers['if-match'];
  if (ifMatch !== undefined && !namesEtag(ifMatch, file.etag)) {
    throw new IngotError('content-changed', `${file.name} is not what it was`, { etag: file.etag });
  }
  const ifNoneMatch = headers['if-none-match'];
  return ifNoneMatch !== undefined && namesEtag(ifNoneMatch, file.etag);
}

function sayNotModified(reply: FastifyReply, headers: OutgoingHttpHeaders): void {
  reply.hijack();
  reply.raw.writeHead(304, { ETag: headers['ETag'], 'Cache-Control': headers['Cache-Control'] });
  reply.raw.end();
}

function fileHeaders(
  file: Pick<PublishedFile, 'name' | 'mediaType' | 'etag'>,
  sha256: string | undefined,
): OutgoingHttpHeaders {
  return {
    'Content-Type': file.mediaType,
    ETag: `"${file.etag}"`,
    // Anything in between must neither compress nor keep it: the bytes are the file.
    'Cache-Control': 'private, no-transform',
    // An artifact has a name of a user's: only what every header and file system takes.
    'Content-Disposition': `attachment; filename="${file.name.replace(/[^\w.+-]/g, '_')}"`,
    ...(sha256 === undefined ? {} : { [REPR_DIGEST]: reprDigest(sha256) }),
  };
}

/** @see https://www.rfc-editor.org/rfc/rfc9530#section-3 */
function reprDigest(sha256: string): string {
  return `sha-256=:${Buffer.from(sha256, 'hex').toString('base64')}:`;
}

/**
 * Answers a GET or HEAD with bytes whose number nobody knows before their end.
 *
 * They go out in pieces of HTTP, of which the last one says that it is: an answer that was cut is
 * never taken for a whole one. Their digest comes behind them, as a trailer; once they were read to
 * their end, digest and length go ahead of them. The file is disposed here.
 *
 * @throws IngotError `content-changed`, `too-many-requests`, before anything was sent
 * @see https://www.rfc-editor.org/rfc/rfc9530#section-3 for Repr-Digest as a trailer
 */
export async function sendStream(
  request: FastifyRequest,
  reply: FastifyReply,
  opened: PublishedStream,
  context: SendContext & { readonly digests: FileDigests },
): Promise<void> {
  await using file = opened;
  const response = reply.raw;
  const known = context.digests.known(file.etag);
  const headers = fileHeaders(file, known?.digest);
  if (isNotModified(request, file)) {
    sayNotModified(reply, headers);
    return;
  }
  headers['Accept-Ranges'] = 'none';
  if (known !== undefined) headers['Content-Length'] = known.sizeBytes;
  else if (request.method !== 'HEAD') headers['Trailer'] = REPR_DIGEST;
  using _memory = context.takeMemory(request.method === 'HEAD' ? 0 : undefined);
  reply.hijack();
  response.writeHead(200, headers);
  if (request.method === 'HEAD') {
    response.end();
    return;
  }
  const hash = known === undefined ? new CountedHash() : undefined;
  await stream(response, file.name, {
    ...context,
    read: (gone) => file.read(gone),
    onBytes: (bytes) => hash?.update(bytes),
    onEnd: () => {
      if (hash === undefined) return;
      const found = hash.end();
      context.digests.note(file.etag, found);
      response.addTrailers({ [REPR_DIGEST]: reprDigest(found.digest) });
    },
  });
}

/** What {@link stream} sends, and who hears of it. */
interface StreamContext extends SendContext {
  readonly read: (signal: AbortSignal) => AsyncIterable<Uint8Array>;
  readonly onBytes?: (bytes: Uint8Array) => void;
  /** Called after the last byte, before the answer ends. */
  readonly onEnd?: () => void;
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
  { read, clock, log, countBytes, onBytes, onEnd }: StreamContext,
): Promise<void> {
  const gone = goneSignal(response);
  using stall = stallGuard(clock, () => {
    response.destroy(new Error(`the receiver took nothing for ${STALL_MS} ms`));
  });
  try {
    const sender = new Sender(response, gone);
    for await (const bytes of read(gone)) {
      countBytes(bytes.byteLength);
      onBytes?.(bytes);
      stall.start();
      await sender.send(bytes);
      stall.stop();
    }
    onEnd?.();
    response.end();
  } catch (thrown) {
    response.destroy();
    if (gone.aborted) return;
    log.error('a download broke off', { file: name, reason: String(thrown) });
  }
}
