import type { IncomingMessage } from 'node:http';
import { type Id, IngotError, isFailure, systemClock } from '../../base/index.ts';
import type { ImageForm } from '../../serve/index.ts';
import type { DaemonClient } from './daemon-client.ts';
import { readAnswer } from './http-connection.ts';
import type { MessageHead } from './message-head.ts';
import { refusedPauseMs } from './refused-pause.ts';

/** Breaks in a row that are mended without a byte in between. */
const MAX_BREAKS = 4;
const PAUSE_MS = 500;
/** How often a daemon may say that it has too many downloads; it says when to come back. */
const MAX_REFUSALS = 180;
/** A daemon that sends nothing for so long has gone away. */
const STALL_MS = 120_000;

/** An image as a file of the daemon, before its first byte. */
export interface RemoteFile {
  readonly id: Id<'img'>;
  readonly form: ImageForm;
  readonly sizeBytes: number;
  /** Names the exact bytes: the same tag, the same file. */
  readonly etag: string;
  /** SHA-256 of the file's bytes as hex, where the daemon knows it. */
  readonly sha256: string | undefined;
}

/**
 * Asks for a file's size and validators.
 *
 * @throws IngotError `image-not-found`, `image-not-ready`, `daemon-protocol`
 */
export async function remoteFile(
  client: DaemonClient,
  id: Id<'img'>,
  form: ImageForm,
): Promise<RemoteFile> {
  return (await remoteFileEnd(client, id, form, 1)).file;
}

/**
 * Asks for a file's size and validators, and for its last bytes.
 *
 * @param lastBytes 1 or more; a shorter file gives all of its bytes
 * @throws IngotError as {@link remoteFile}
 */
export async function remoteFileEnd(
  client: DaemonClient,
  id: Id<'img'>,
  form: ImageForm,
  lastBytes: number,
): Promise<{ readonly file: RemoteFile; readonly end: Buffer }> {
  // A HEAD that fails could not say why: its answer has no body.
  const answer = await client.call({
    method: 'GET',
    path: `/images/${id}/${form}`,
    headers: { range: `bytes=-${lastBytes}` },
  });
  const end = await readAnswer(answer);
  const etag = /^"([^"]+)"$/.exec(answer.headers.etag ?? '')?.[1];
  const range = /\/(\d+)$/.exec(answer.headers['content-range'] ?? '')?.[1];
  const sizeBytes = Number(range ?? answer.headers['content-length'] ?? Number.NaN);
  if (etag === undefined || !Number.isSafeInteger(sizeBytes)) {
    throw new IngotError('daemon-protocol', `the daemon tells no size or no validator of ${id}`);
  }
  const digest = /^sha-256=:([A-Za-z0-9+/=]+):$/.exec(
    String(answer.headers['repr-digest'] ?? ''),
  )?.[1];
  const sha256 = digest === undefined ? undefined : Buffer.from(digest, 'base64').toString('hex');
  return { file: { id, form, sizeBytes, etag, sha256 }, end };
}

/** Which bytes of a file: `startByte` up to before `endByte`. */
interface RemoteRange {
  readonly startByte: number;
  readonly endByte: number;
}

/**
 * Yields a file's bytes from `startByte` on. A connection that breaks is opened again where it
 * broke, as long as the file is the same. A daemon that has too many downloads is asked again later.
 *
 * @returns buffers that are the caller's
 * @throws IngotError `content-changed`, `daemon-unreachable`, `daemon-protocol`
 */
export function remoteBytes(
  client: DaemonClient,
  file: RemoteFile,
  startByte: number,
): AsyncGenerator<Buffer, void, undefined> {
  return mendedBytes(client, file, { startByte, endByte: file.sizeBytes }, partFrom);
}

/**
 * Yields the bytes of a range as {@link remoteBytes} does, at a quarter of its cost.
 *
 * @returns buffers that are valid until the next is asked for
 * @throws IngotError as {@link remoteBytes}
 */
export function remoteBlocks(
  client: DaemonClient,
  file: RemoteFile,
  range: RemoteRange,
): AsyncGenerator<Buffer, void, undefined> {
  return mendedBytes(client, file, range, directPartFrom);
}

type PartReader = (
  client: DaemonClient,
  file: RemoteFile,
  range: RemoteRange,
) => AsyncGenerator<Buffer, void, undefined>;

async function* mendedBytes(
  client: DaemonClient,
  file: RemoteFile,
  { startByte, endByte }: RemoteRange,
  readPart: PartReader,
): AsyncGenerator<Buffer, void, undefined> {
  let at = startByte;
  let breaks = 0;
  let refusals = 0;
  while (at < endByte) {
    try {
      for await (const bytes of readPart(client, file, { startByte: at, endByte })) {
        at += bytes.byteLength;
        breaks = 0;
        yield bytes;
      }
    } catch (thrown) {
      client.signal?.throwIfAborted();
      if (isFailure(thrown, 'too-many-requests') && refusals < MAX_REFUSALS) {
        refusals += 1;
        await systemClock.sleep(refusedPauseMs(thrown, 10), client.signal);
        continue;
      }
      breaks += 1;
      if (thrown instanceof IngotError && !isFailure(thrown, 'daemon-unreachable')) throw thrown;
      if (breaks > MAX_BREAKS) throw brokeOff(file, at, thrown);
    }
    // A connection that brought bytes before it broke is worth another at once.
    if (at < endByte && breaks > 1) await systemClock.sleep(PAUSE_MS, client.signal);
  }
}

function partHeaders(file: RemoteFile, { startByte, endByte }: RemoteRange) {
  return {
    'if-match': `"${file.etag}"`,
    ...(isWhole(file, { startByte, endByte })
      ? {}
      : { range: `bytes=${startByte}-${endByte - 1}` }),
  };
}

function isWhole(file: RemoteFile, { startByte, endByte }: RemoteRange): boolean {
  return startByte === 0 && endByte === file.sizeBytes;
}

async function* partFrom(
  client: DaemonClient,
  file: RemoteFile,
  range: RemoteRange,
): AsyncGenerator<Buffer, void, undefined> {
  const answer = await client.call({
    method: 'GET',
    path: `/images/${file.id}/${file.form}`,
    headers: partHeaders(file, range),
  });
  try {
    checkPart(answer, file, range);
    answer.setTimeout(STALL_MS, () => answer.destroy(new Error(`nothing came for ${STALL_MS} ms`)));
    for await (const bytes of answer) yield bytes as Buffer;
  } finally {
    answer.destroy();
  }
}

/** A part over a connection of its own; whatever is unusual is left to the ordinary way. */
async function* directPartFrom(
  client: DaemonClient,
  file: RemoteFile,
  range: RemoteRange,
): AsyncGenerator<Buffer, void, undefined> {
  const opened = await client
    .openDirect(`/images/${file.id}/${file.form}`, partHeaders(file, range))
    .catch((thrown: unknown) => {
      if (thrown instanceof IngotError) throw thrown;
      return undefined;
    });
  using answer = opened?.answer;
  if (answer === undefined || !isExpected(opened?.head, file, range)) {
    answer?.[Symbol.dispose]();
    yield* partFrom(client, file, range);
    return;
  }
  yield* answer.body(range.endByte - range.startByte);
}

function isExpected(head: MessageHead | undefined, file: RemoteFile, range: RemoteRange): boolean {
  return (
    head?.statusCode === (isWhole(file, range) ? 200 : 206) &&
    Number(head.headers.get('content-length')) === range.endByte - range.startByte &&
    !head.headers.has('transfer-encoding') &&
    !head.headers.has('content-encoding')
  );
}

function checkPart(answer: IncomingMessage, file: RemoteFile, range: RemoteRange): void {
  const { startByte, endByte } = range;
  const lengthBytes = Number(answer.headers['content-length']);
  const isPart = answer.statusCode === (isWhole(file, range) ? 200 : 206);
  if (isPart && lengthBytes === endByte - startByte) return;
  throw new IngotError(
    'daemon-protocol',
    `the daemon answered ${answer.statusCode} with ${lengthBytes} bytes to bytes ${startByte} to ${endByte}`,
  );
}

function brokeOff(file: RemoteFile, at: number, cause: unknown): IngotError {
  return new IngotError(
    'daemon-unreachable',
    `the download broke off after ${at} of ${file.sizeBytes} bytes`,
    { doneBytes: at, totalBytes: file.sizeBytes },
    { cause },
  );
}
