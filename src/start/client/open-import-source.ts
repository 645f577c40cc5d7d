import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { errnoOf, IngotError } from '../../base/index.ts';
import { decompress, MAGIC_BYTES, sniffCompression } from '../../bytes/index.ts';
import { openSnapshotSource } from '../../capture/adapters/open-snapshot-source.ts';
import { spoolSnapshot } from '../../capture/adapters/spooled-snapshot.ts';
import { MAX_STALL_MS, type SnapshotSource } from '../../capture/index.ts';

/** Pieces in which a file is read; one that is compressed is inflated piece by piece. */
const READ_BYTES = 1024 * 1024;
/** A stream that unpacks to more is a bomb or a mistake. */
const MAX_PLAIN_BYTES = 16 * 1024 ** 4;

/** How a file or a stream becomes an image. */
export interface ImportRequest {
  /** What people know it by. */
  readonly name: string;
  readonly freeSpace: 'zero' | 'keep';
  /** Where a stream is put until it is whole. */
  readonly spoolFolder: string;
  readonly signal: AbortSignal;
}

/**
 * Opens an image file. What is compressed by gzip, xz or zstd (by its first bytes, whatever its name)
 * is unpacked into the spool.
 *
 * @throws IngotError `source-not-found`, `source-unreadable`, `compression-malformed`, `target-full`
 */
export async function openImportFile(
  path: string,
  request: ImportRequest,
): Promise<SnapshotSource> {
  const compression = sniffCompression(await startOf(path));
  if (compression === 'none') {
    return openSnapshotSource({
      source: path,
      freeSpace: request.freeSpace,
      freeze: true,
      limits: { maxFreezeMs: undefined, maxStallMs: MAX_STALL_MS },
      forbiddenPaths: [],
    });
  }
  const pieces = createReadStream(path, { highWaterMark: READ_BYTES });
  return spool(decompress(compression, pieces, path), request);
}

/**
 * Takes a stream in whole and opens it; compressed ones are unpacked.
 *
 * @throws IngotError `compression-malformed`, `target-full`, `source-truncated` when it is empty
 */
export async function openImportStream(
  stream: NodeJS.ReadableStream,
  request: ImportRequest,
): Promise<SnapshotSource> {
  const pieces = piecesOf(stream);
  const head: Buffer[] = [];
  let headBytes = 0;
  while (headBytes < MAGIC_BYTES) {
    const next = await pieces.next();
    if (next.done === true) break;
    head.push(next.value);
    headBytes += next.value.byteLength;
  }
  if (headBytes === 0) throw new IngotError('source-truncated', `${request.name} is empty`);
  const compression = sniffCompression(Buffer.concat(head));
  async function* whole(): AsyncGenerator<Buffer> {
    yield* head;
    yield* pieces;
  }
  const plain = compression === 'none' ? whole() : decompress(compression, whole(), request.name);
  return spool(plain, request);
}

function spool(plain: AsyncIterable<Uint8Array>, request: ImportRequest): Promise<SnapshotSource> {
  const { name, freeSpace, spoolFolder: folder, signal } = request;
  return spoolSnapshot(Readable.from(limited(plain, name)), { folder, name, freeSpace, signal });
}

async function* limited(
  plain: AsyncIterable<Uint8Array>,
  name: string,
): AsyncGenerator<Uint8Array, void, undefined> {
  let count = 0;
  for await (const bytes of plain) {
    count += bytes.byteLength;
    if (count > MAX_PLAIN_BYTES) {
      throw new IngotError(
        'request-too-large',
        `${name} unpacks to more than ${MAX_PLAIN_BYTES} bytes`,
      );
    }
    yield bytes;
  }
}

async function* piecesOf(stream: NodeJS.ReadableStream): AsyncGenerator<Buffer, void, undefined> {
  for await (const piece of stream) yield Buffer.isBuffer(piece) ? piece : Buffer.from(piece);
}

async function startOf(path: string): Promise<Buffer> {
  try {
    await using file = await open(path, 'r');
    const { bytesRead, buffer } = await file.read(Buffer.alloc(MAGIC_BYTES), 0, MAGIC_BYTES, 0);
    return buffer.subarray(0, bytesRead);
  } catch (cause) {
    const errno = errnoOf(cause) ?? 'unknown';
    const code = errno === 'ENOENT' ? 'source-not-found' : 'source-unreadable';
    throw new IngotError(code, `${path} cannot be read: ${errno}`, { path }, { cause });
  }
}
