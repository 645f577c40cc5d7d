import type { IncomingMessage } from 'node:http';
import { type Id, IngotError, isFailure, systemClock } from '../../base/index.ts';
import type { ImageForm } from '../../serve/index.ts';
import type { DaemonClient } from './daemon-client.ts';

/** Breaks in a row that are mended without a byte in between. */
const MAX_BREAKS = 4;
const PAUSE_MS = 500;
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
  // A HEAD that fails could not say why: its answer has no body.
  const answer = await client.call({
    method: 'GET',
    path: `/images/${id}/${form}`,
    headers: NOTHING,
  });
  answer.destroy();
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
  return { id, form, sizeBytes, etag, sha256 };
}

/** One byte is the least that a range can ask for. */
const NOTHING = { range: 'bytes=0-0' };

/**
 * Yields a file's bytes from `startByte` on. A connection that breaks is opened again where it
 * broke, as long as the file is the same.
 *
 * @throws IngotError `content-changed`, `daemon-unreachable`, `daemon-protocol`
 */
export async function* remoteBytes(
  client: DaemonClient,
  file: RemoteFile,
  startByte: number,
): AsyncGenerator<Buffer, void, undefined> {
  let at = startByte;
  let breaks = 0;
  while (at < file.sizeBytes) {
    try {
      for await (const bytes of partFrom(client, file, at)) {
        at += bytes.byteLength;
        breaks = 0;
        yield bytes;
      }
    } catch (thrown) {
      client.signal?.throwIfAborted();
      breaks += 1;
      if (thrown instanceof IngotError && !isFailure(thrown, 'daemon-unreachable')) throw thrown;
      if (breaks > MAX_BREAKS) throw brokeOff(file, at, thrown);
    }
    // A connection that brought bytes before it broke is worth another at once.
    if (at < file.sizeBytes && breaks > 1) await systemClock.sleep(PAUSE_MS, client.signal);
  }
}

async function* partFrom(
  client: DaemonClient,
  file: RemoteFile,
  at: number,
): AsyncGenerator<Buffer, void, undefined> {
  const answer = await client.call({
    method: 'GET',
    path: `/images/${file.id}/${file.form}`,
    headers: { 'if-match': `"${file.etag}"`, ...(at === 0 ? {} : { range: `bytes=${at}-` }) },
  });
  try {
    checkPart(answer, file, at);
    answer.setTimeout(STALL_MS, () => answer.destroy(new Error(`nothing came for ${STALL_MS} ms`)));
    for await (const bytes of answer) yield bytes as Buffer;
  } finally {
    answer.destroy();
  }
}

function checkPart(answer: IncomingMessage, file: RemoteFile, at: number): void {
  const lengthBytes = Number(answer.headers['content-length']);
  const isPart = answer.statusCode === (at === 0 ? 200 : 206);
  if (isPart && lengthBytes === file.sizeBytes - at) return;
  throw new IngotError(
    'daemon-protocol',
    `the daemon answered ${answer.statusCode} with ${lengthBytes} bytes to bytes ${at} to ${file.sizeBytes}`,
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
