import { createReadStream } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { errnoOf, IngotError } from '../../../../base/index.ts';
import {
  ByteStream,
  type Compression,
  compressionExtension,
  decompress,
  MAGIC_BYTES,
  sniffCompression,
} from '../../../../bytes/index.ts';
import { type ArtifactPayload, makeZeros, ReusedBuffers } from '../../../../publish/index.ts';
import { Holes } from './file-holes.ts';
import { apartOf } from './payload-digest.ts';

const READ_BYTES = 1024 * 1024;
/** A root filesystem's mode says nothing; it must not depend on the umask of who made the file. */
const ROOTFS_MODE = 0o644;

function unreadable(path: string, cause: unknown): IngotError {
  const errno = errnoOf(cause);
  return new IngotError(
    errno === 'ENOENT' ? 'file-not-found' : 'source-unreadable',
    `${path} cannot be read: ${errno ?? String(cause)}`,
    { path },
    { cause },
  );
}

/** Which part of a file is read, and how. */
interface ReadOptions {
  /** The first byte; 0 if it is not given. */
  readonly fromByte?: number;
  /** A piece stays unchanged until so many more bytes were given out; for ever if not given. */
  readonly keptBytes?: number;
  /** Gives memory for what is read. */
  readonly allocate?: (sizeBytes: number) => Buffer;
}

/**
 * Reads a file from a byte of it to its end; holes are not read.
 *
 * @throws IngotError `file-not-found`, `source-unreadable`
 */
export async function* readFilePieces(
  path: string,
  {
    fromByte = 0,
    keptBytes = Number.POSITIVE_INFINITY,
    allocate = (sizeBytes) => Buffer.allocUnsafeSlow(sizeBytes),
  }: ReadOptions = {},
): AsyncGenerator<Buffer, void, undefined> {
  const handle = await open(path, 'r').catch((cause: unknown) => {
    throw unreadable(path, cause);
  });
  const buffers = new ReusedBuffers({ bufferBytes: READ_BYTES, keptBytes, allocate });
  const holes = new Holes(handle.fd);
  let zeros: Buffer | undefined;
  const read = async (position: number) => {
    // Up to where a window ends: pieces of windows are worked on without being put together.
    const windowBytes = READ_BYTES - (position % READ_BYTES);
    const dataBytes = holes.untilData(position);
    if (dataBytes > 0) {
      // Made once, never written to: it may be given out again at once.
      zeros ??= makeZeros(allocate, READ_BYTES);
      return { buffer: undefined, piece: zeros.subarray(0, Math.min(dataBytes, windowBytes)) };
    }
    const buffer = buffers.take();
    const { bytesRead } = await handle
      .read(buffer, 0, windowBytes, position)
      .catch((cause: unknown) => {
        throw unreadable(path, cause);
      });
    return { buffer, piece: buffer.subarray(0, bytesRead) };
  };
  let ahead = read(fromByte);
  try {
    for (let position = fromByte; ; ) {
      const { buffer, piece } = await ahead;
      if (piece.length === 0) return;
      // The next one is read while this one is worked on.
      ahead = read(position + piece.length);
      ahead.catch(() => undefined);
      position += piece.length;
      if (buffer !== undefined) buffers.gaveOut(buffer, piece.length);
      yield piece;
    }
  } finally {
    await ahead.catch(() => undefined);
    await handle.close();
  }
}

async function startOf(path: string): Promise<Buffer> {
  for await (const piece of readFilePieces(path)) return piece.subarray(0, MAGIC_BYTES);
  return Buffer.alloc(0);
}

async function statusOf(path: string) {
  try {
    const status = await stat(path);
    if (status.isFile() || status.isBlockDevice()) return status;
  } catch (cause) {
    throw unreadable(path, cause);
  }
  throw new IngotError(
    'source-unsupported',
    `${path} is no regular file or block device; a payload is read from its start more than once`,
    { path },
  );
}

/** Gives the same bytes as buffers of Node. */
export async function* asBuffers(
  source: AsyncIterable<Uint8Array>,
): AsyncGenerator<Buffer, void, undefined> {
  for await (const { buffer, byteOffset, byteLength } of source) {
    yield Buffer.from(buffer, byteOffset, byteLength);
  }
}

/** `root-part.fs.gz` → `root-part.fs`: the payload is what comes out. */
function plainName(path: string, compression: Compression): string {
  const name = basename(path);
  const extension = compressionExtension(compression);
  return extension !== '' && name.endsWith(extension) ? name.slice(0, -extension.length) : name;
}

/**
 * Opens the image of a root filesystem; .gz, .xz and .zst are told by their first bytes and
 * decompressed on the way.
 *
 * @throws IngotError `file-not-found`, `source-unreadable`, `source-unsupported`
 */
export async function openRootfsFile(path: string): Promise<ArtifactPayload> {
  const status = await statusOf(path);
  const compression = sniffCompression(await startOf(path));
  if (status.isFile() && status.size === 0) {
    throw new IngotError('source-unsupported', `${path} is empty: no filesystem`, { path });
  }
  return {
    name: plainName(path, compression),
    mode: ROOTFS_MODE,
    isAugmented: false,
    sizeBytes: status.isFile() && compression === 'none' ? status.size : undefined,
    ...(status.isFile() && compression === 'none' ? apartOf(path) : {}),
    open: ({ keptBytes, allocate }) =>
      compression === 'none'
        ? readFilePieces(path, { keptBytes, allocate })
        : asBuffers(decompress(compression, readFilePieces(path), path)),
  };
}

async function* withRest(
  start: Buffer,
  stream: ByteStream,
): AsyncGenerator<Buffer, void, undefined> {
  yield start;
  for (;;) {
    const more = await stream.takeSome(READ_BYTES);
    if (more === undefined) return;
    yield more;
  }
}

/**
 * Opens a pipe as the image of a root filesystem: it has no size, and is read once.
 *
 * @param path a FIFO, or `-` for stdin
 */
export function openPipe(path: string, stdin: AsyncIterable<Buffer>): ArtifactPayload {
  return {
    name: path === '-' ? 'rootfs.img' : basename(path),
    mode: ROOTFS_MODE,
    isAugmented: false,
    sizeBytes: undefined,
    async *open() {
      const source = path === '-' ? stdin : createReadStream(path, { highWaterMark: READ_BYTES });
      const stream = new ByteStream(source);
      try {
        const start = await stream.take(MAGIC_BYTES);
        yield* asBuffers(decompress(sniffCompression(start), withRest(start, stream), path));
      } finally {
        await stream.close();
      }
    },
  };
}

/**
 * Opens a file for an update module; it is taken as it is.
 *
 * @throws IngotError `file-not-found`, `source-unreadable`, `source-unsupported`
 */
export async function openModuleFile(path: string, isAugmented: boolean): Promise<ArtifactPayload> {
  const status = await statusOf(path);
  return {
    name: basename(path),
    mode: status.mode & 0o777,
    isAugmented,
    sizeBytes: status.isFile() ? status.size : undefined,
    ...(status.isFile() ? apartOf(path) : {}),
    open: ({ keptBytes, allocate }) => readFilePieces(path, { keptBytes, allocate }),
  };
}
