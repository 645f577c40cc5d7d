import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { addAbortSignal, Readable } from 'node:stream';
import { errnoOf, IngotError, noProgress, type OnProgress } from '../../base/index.ts';
import {
  type Compression,
  DISK_HEADER_BYTES,
  type DiskFormat,
  decompress,
  MAGIC_BYTES,
  readDiskMap,
  sniffCompression,
  sniffDiskFormat,
} from '../../bytes/index.ts';
import { MAX_STALL_MS } from '../freeze.ts';
import type { SnapshotSource } from '../snapshot-source.ts';
import { openFileSnapshot } from './file-snapshot.ts';
import { openSnapshotSource } from './open-snapshot-source.ts';
import { convertDisk } from './qemu-img.ts';
import { openSpooled, spoolFile } from './spooled-snapshot.ts';

/** Pieces in which a file is read; one that is compressed is inflated piece by piece. */
const READ_BYTES = 1024 * 1024;
/** A stream that unpacks to more is a bomb or a mistake. */
const MAX_DISK_BYTES = 16 * 1024 ** 4;

/** How a file or a stream becomes a source. */
export interface ImageFileRequest {
  /** What people know it by. */
  readonly name: string;
  readonly freeSpace: 'zero' | 'keep';
  /** Where what is unpacked is put. */
  readonly spoolFolder: string;
  readonly signal: AbortSignal;
  /** The disk must not be larger; 16 TiB when it is not given. */
  readonly maxDiskBytes?: number;
  /** Bytes that must stay free in the spool's folder. */
  readonly keepFreeBytes?: number;
  readonly onProgress?: OnProgress;
  /** Undefined: by the first bytes of what is unpacked. */
  readonly format?: DiskFormat | undefined;
}

/**
 * Opens an image file. What is compressed by gzip, xz or zstd (by its first bytes, whatever its name)
 * is unpacked into the spool; what has a form of its own (qcow2, vmdk, …) is converted there.
 *
 * @throws IngotError `source-not-found`, `source-unreadable`, `compression-malformed`,
 *   `source-unsupported`, `request-too-large`, `target-full`, `tool-missing`
 */
export async function openImageFile(
  path: string,
  request: ImageFileRequest,
): Promise<SnapshotSource> {
  const start = await startOf(path);
  const compression = sniffCompression(start.bytes);
  if (compression === 'none') {
    const format = request.format ?? (start.isFile ? sniffDiskFormat(start.bytes) : 'raw');
    if (format !== 'raw') return await openConverted(path, format, request);
    return openSnapshotSource({
      source: path,
      freeSpace: request.freeSpace,
      freeze: true,
      limits: { maxFreezeMs: undefined, maxStallMs: MAX_STALL_MS },
      forbiddenPaths: [],
    });
  }
  return spool(unpacked(path, compression, request), request);
}

/**
 * Opens a file that the daemon received, as {@link openImageFile} does. It is a regular file of the
 * daemon's own, known to people by the request's name.
 *
 * @throws IngotError `compression-malformed`, `request-too-large`, `target-full`
 */
export async function openReceivedFile(
  path: string,
  request: ImageFileRequest,
): Promise<SnapshotSource> {
  const { bytes } = await startOf(path);
  const compression = sniffCompression(bytes);
  if (compression !== 'none') return spool(unpacked(path, compression, request), request);
  const format = request.format ?? sniffDiskFormat(bytes);
  if (format !== 'raw') return await openConverted(path, format, request);
  const { name, freeSpace } = request;
  return openFileSnapshot({
    path,
    name,
    freeSpace,
    readMap: (disk, state) => readDiskMap(disk, { state }),
  });
}

function unpacked(
  path: string,
  compression: Compression,
  { name }: ImageFileRequest,
): AsyncIterable<Uint8Array> {
  return decompress(compression, createReadStream(path, { highWaterMark: READ_BYTES }), name);
}

/**
 * Takes a stream in whole and opens it; compressed ones are unpacked.
 *
 * @throws IngotError `compression-malformed`, `request-too-large`, `target-full`,
 *   `source-truncated` when it is empty
 */
export async function openImageStream(
  stream: NodeJS.ReadableStream,
  request: ImageFileRequest,
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

async function spool(
  plain: AsyncIterable<Uint8Array>,
  request: ImageFileRequest,
): Promise<SnapshotSource> {
  const { onProgress = noProgress, spoolFolder: folder, signal } = request;
  // A sender that says nothing does not hold it up once the signal aborts.
  const pieces = addAbortSignal(signal, Readable.from(limited(plain, request)));
  const file = await spoolFile(pieces, {
    ...request,
    folder,
    onBytes: (doneBytes) => onProgress({ doneBytes, totalBytes: undefined, stage: 'unpacking' }),
  });
  const format = request.format ?? sniffDiskFormat((await startOf(file.path)).bytes);
  if (format === 'raw') return await openSpooled(file, request);
  await using _unpacked = file;
  return await openConverted(file.path, format, request);
}

async function openConverted(
  path: string,
  format: Exclude<DiskFormat, 'raw'>,
  request: ImageFileRequest,
): Promise<SnapshotSource> {
  const { name, spoolFolder, signal, maxDiskBytes = MAX_DISK_BYTES } = request;
  const { keepFreeBytes = 0, onProgress = noProgress } = request;
  const limits = { maxDiskBytes, keepFreeBytes, signal, onProgress };
  const disk = await convertDisk({ path, name, format, folder: spoolFolder, ...limits });
  const source = await openSpooled(disk, request);
  if (disk.isIsolated) return source;
  const notice =
    'qemu-img ran without namespaces of its own: this system does not let it have them';
  return { ...source, notices: () => [...source.notices(), notice] };
}

async function* limited(
  plain: AsyncIterable<Uint8Array>,
  { name, maxDiskBytes = MAX_DISK_BYTES }: ImageFileRequest,
): AsyncGenerator<Uint8Array, void, undefined> {
  let count = 0;
  for await (const bytes of plain) {
    count += bytes.byteLength;
    if (count > maxDiskBytes) {
      throw new IngotError(
        'request-too-large',
        `${name} unpacks to more than ${maxDiskBytes} bytes`,
        {
          maxDiskBytes,
        },
      );
    }
    yield bytes;
  }
}

async function* piecesOf(stream: NodeJS.ReadableStream): AsyncGenerator<Buffer, void, undefined> {
  for await (const piece of stream) yield Buffer.isBuffer(piece) ? piece : Buffer.from(piece);
}

async function startOf(
  path: string,
): Promise<{ readonly bytes: Buffer; readonly isFile: boolean }> {
  try {
    await using file = await open(path, 'r');
    const room = Buffer.alloc(Math.max(MAGIC_BYTES, DISK_HEADER_BYTES));
    const { bytesRead, buffer } = await file.read(room, 0, room.byteLength, 0);
    // What a block device holds is not its owner's word for what it is.
    return { bytes: buffer.subarray(0, bytesRead), isFile: (await file.stat()).isFile() };
  } catch (cause) {
    const errno = errnoOf(cause) ?? 'unknown';
    const code = errno === 'ENOENT' ? 'source-not-found' : 'source-unreadable';
    throw new IngotError(code, `${path} cannot be read: ${errno}`, { path }, { cause });
  }
}
