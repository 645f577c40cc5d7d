import { type FileHandle, open } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { digestFromBytes, errnoOf, type FileDigest, IngotError } from '../../../../base/index.ts';
import { combineCrc32 } from '../../../../bytes/index.ts';
import { CacheSparingFile } from '../../../../capture/adapters/cache-sparing-file.ts';
import { TaskThread } from '../../../../keep/adapters/task-thread.ts';
import type { CodeApartOptions, CodedPiece } from '../../../../publish/index.ts';
import type { CodedPart } from './coding-parts.ts';
import type { CodingResult, CodingTask, CodingThread } from './coding-tasks.ts';
import { FileCoder } from './file-coder.ts';
import { placesOf } from './file-places.ts';

/** More cores than this wait for the digest, which is one chain. */
const MAX_THREADS = 8;
/** What `st_blocks` counts in. */
const STATUS_BLOCK_BYTES = 512;

/**
 * Reads a regular file, codes it on all cores in segments of `MAX_CHUNK_BYTES`, and hashes it on the
 * way: the same as coding what was read elsewhere, for less time. Holes are not read.
 *
 * @param engineName of the segment codec that codes
 * @returns pieces in order, valid until the next is asked for; then the digest, CRC and size of all
 * @throws IngotError `file-not-found`, `source-unreadable`, `content-changed`; the signal's reason
 */
export async function* codeFile(
  path: string,
  engineName: string,
  { digest, signal, onBytes }: CodeApartOptions,
  threadCount: number = Math.min(availableParallelism(), MAX_THREADS),
): AsyncGenerator<CodedPiece, FileDigest, undefined> {
  await using file = await openFile(path);
  const before = await file.stat({ bigint: true });
  const sizeBytes = Number(before.size);
  await using coldReader = await CacheSparingFile.open(file);
  await using threads = new FileThreads({ fd: file.fd, engineName }, threadCount);
  let hashedBytes = digest === undefined ? 0 : sizeBytes;
  let doneBytes = 0;
  const tell = (): void => onBytes(Math.min(hashedBytes, doneBytes));
  const coder = new FileCoder({
    path,
    places: placesOf(file.fd, sizeBytes),
    sizeBytes,
    dataBytes: Math.min(sizeBytes, Number(before.blocks) * STATUS_BLOCK_BYTES),
    isHashed: digest === undefined,
    threads: threads.all,
    coldReader,
    onHashed: (bytes) => {
      hashedBytes = bytes;
      tell();
    },
  });
  const onAbort = (): void => coder.fail(signal?.reason);
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    signal?.throwIfAborted();
    let crc32 = 0;
    for (;;) {
      const part = await coder.next();
      if (part === undefined) break;
      for (const piece of piecesOf(part)) {
        crc32 = combineCrc32(crc32, piece.crc32, piece.plainBytes);
        doneBytes += piece.plainBytes;
        tell();
        yield piece;
      }
      if (part.target !== undefined) coder.giveBack(part.target);
    }
    const found = digest ?? digestFromBytes(await coder.sha256);
    const { size, mtimeNs } = await file.stat({ bigint: true });
    if (size !== before.size || mtimeNs !== before.mtimeNs) {
      throw new IngotError('content-changed', `${path} changed while it was read`, { path });
    }
    return { digest: found, crc32, sizeBytes: doneBytes };
  } finally {
    signal?.removeEventListener('abort', onAbort);
    await coder.end();
  }
}

/** Threads that read one file. */
class FileThreads implements AsyncDisposable {
  readonly all: readonly TaskThread<CodingTask, CodingResult>[];

  /** @param workerData its descriptor stays open until these are disposed of */
  constructor(workerData: CodingThread, count: number) {
    this.all = Array.from(
      { length: count },
      () =>
        new TaskThread<CodingTask, CodingResult>(
          new Worker(new URL('./coded-file-worker.ts', import.meta.url), {
            workerData,
            resourceLimits: { maxYoungGenerationSizeMb: 2 },
          }),
          // Whoever waits for a task goes on by itself.
          () => undefined,
        ),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.all.map((thread) => thread.end()));
  }
}

async function openFile(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r');
  } catch (cause) {
    const errno = errnoOf(cause);
    const code = errno === 'ENOENT' ? 'file-not-found' : 'source-unreadable';
    throw new IngotError(code, `${path} cannot be read: ${errno}`, { path }, { cause });
  }
}

function* piecesOf({ runs, target }: CodedPart): Generator<CodedPiece, void, undefined> {
  let at = 0;
  for (const { plainBytes, crc32, codedBytes } of runs) {
    const own = codedBytes === 0 ? undefined : target?.subarray(at, at + codedBytes);
    at += codedBytes;
    yield { own, crc32, plainBytes };
  }
}
