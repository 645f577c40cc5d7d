import { once } from 'node:events';
import { Readable } from 'node:stream';
import { createZstdCompress } from 'node:zlib';
import { type Id, IngotError, isFailure, type OnProgress } from '../../base/index.ts';
import { type ContentCheck, gzipCheck, rawCheck } from './content-check.ts';
import type { DaemonClient } from './daemon-client.ts';
import { type RemoteFile, remoteBytes, remoteFile } from './image-stream.ts';
import { PartFile } from './part-file.ts';

/** Forms of a file that a download can make. */
export const DOWNLOAD_FORMS = ['gz', 'raw', 'zst'] as const;

/** One of them. */
type DownloadForm = (typeof DOWNLOAD_FORMS)[number];

/** What a download does. */
export interface DownloadRequest {
  readonly client: DaemonClient;
  readonly imageId: Id<'img'>;
  readonly form: DownloadForm;
  /** Whether a part that an earlier download left is gone on with. */
  readonly isResumed: boolean;
  /** Whether what came is checked against the library's digest and CRC. */
  readonly isChecked: boolean;
  readonly onProgress: OnProgress;
}

/** What a download did. */
export interface DownloadReport {
  readonly sizeBytes: number;
  /** Bytes that were there already from an earlier download. */
  readonly resumedBytes: number;
  /** SHA-256 of the plain disk, where it was compared with the library's. */
  readonly checkedSha256: string | undefined;
}

/**
 * Downloads an image to a file: whole and checked under its name, or not at all. What came of a
 * download that broke off stays beside it as `.part`.
 *
 * @throws IngotError `image-not-found`, `chunk-corrupt`, `content-changed`, `target-full`,
 *   `target-in-use`, `daemon-unreachable`
 */
export async function downloadToFile(
  request: DownloadRequest,
  path: string,
): Promise<DownloadReport> {
  const { form } = request;
  const { file, check } = await begin(request);
  await using part = await PartFile.open(path, {
    // Another coding of the same bytes is another file, and zstd cannot be gone on with.
    etag: form === 'zst' ? `zst ${file.etag}` : file.etag,
    sizeBytes: form === 'zst' ? Number.POSITIVE_INFINITY : file.sizeBytes,
    isResumed: request.isResumed && form !== 'zst',
    isSparse: form === 'raw',
  });
  try {
    const { resumedBytes, checkedSha256 } = await fillPart(request, { file, check, part });
    const sizeBytes = part.doneBytes;
    await part.finish();
    return { sizeBytes, resumedBytes, checkedSha256 };
  } catch (thrown) {
    // Wrong bytes are noticed at any time, in what was there already too: none of them is kept.
    if (isFailure(thrown, 'chunk-corrupt')) await part.discard();
    throw thrown;
  }
}

/** Brings the part to its end, and checks all of it. */
async function fillPart(
  request: DownloadRequest,
  {
    file,
    check,
    part,
  }: {
    readonly file: RemoteFile;
    readonly check: ContentCheck | undefined;
    readonly part: PartFile;
  },
): Promise<Pick<DownloadReport, 'resumedBytes' | 'checkedSha256'>> {
  const { client, form, onProgress } = request;
  const resumedBytes = part.doneBytes;
  for await (const bytes of part.existing()) await check?.update(bytes);
  let doneBytes = resumedBytes;
  async function* passing(): AsyncGenerator<Buffer> {
    for await (const bytes of remoteBytes(client, file, resumedBytes)) {
      await check?.update(bytes);
      doneBytes += bytes.byteLength;
      onProgress({ doneBytes, totalBytes: file.sizeBytes, stage: 'downloading' });
      yield bytes;
    }
  }
  for await (const bytes of coded(passing(), form)) await part.write(bytes);
  return { resumedBytes, checkedSha256: await finish(request, check) };
}

/**
 * Downloads an image to a stream.
 *
 * @throws IngotError as {@link downloadToFile} does, and `target-closed`
 */
export async function downloadToStream(
  request: DownloadRequest,
  target: NodeJS.WritableStream,
): Promise<DownloadReport> {
  const { client, form, onProgress } = request;
  const { file, check } = await begin(request);
  let doneBytes = 0;
  let sizeBytes = 0;
  const closed = new AbortController();
  target.once('close', () => closed.abort());
  target.once('error', () => closed.abort());
  async function* passing(): AsyncGenerator<Buffer> {
    for await (const bytes of remoteBytes(client, file, 0)) {
      await check?.update(bytes);
      doneBytes += bytes.byteLength;
      onProgress({ doneBytes, totalBytes: file.sizeBytes, stage: 'downloading' });
      yield bytes;
    }
  }
  for await (const bytes of coded(passing(), form)) {
    sizeBytes += bytes.byteLength;
    if (closed.signal.aborted) throw new IngotError('target-closed', 'the reader went away');
    if (target.write(bytes)) continue;
    await once(target, 'drain', { signal: closed.signal }).catch((cause: unknown) => {
      throw new IngotError('target-closed', 'the reader went away', {}, { cause });
    });
  }
  return { sizeBytes, resumedBytes: 0, checkedSha256: await finish(request, check) };
}

async function begin({ client, imageId, form, isChecked }: DownloadRequest): Promise<{
  file: RemoteFile;
  check: ContentCheck | undefined;
}> {
  const file = await remoteFile(client, imageId, form === 'gz' ? 'gzip' : 'raw');
  const make = form === 'gz' ? gzipCheck : rawCheck;
  return { file, check: isChecked ? make(imageId) : undefined };
}

/** Compares what came with the digest, which the daemon mostly knows by now. */
async function finish(
  { client, imageId }: DownloadRequest,
  check: ContentCheck | undefined,
): Promise<string | undefined> {
  if (check === undefined) return undefined;
  const sha256 = await client.imageDigest(imageId);
  await check.end(sha256);
  return sha256;
}

function coded(bytes: AsyncGenerator<Buffer>, form: DownloadForm): AsyncIterable<Buffer> {
  if (form !== 'zst') return bytes;
  // Readable.pipe forwards no failure; compose does, and destroys both.
  return Readable.from(bytes).compose(createZstdCompress()) as AsyncIterable<Buffer>;
}
