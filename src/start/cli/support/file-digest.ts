import { Worker } from 'node:worker_threads';
import { digestFromBytes, type FileDigest, IngotError } from '../../../base/index.ts';

interface Told {
  readonly doneBytes: number;
  readonly crc32?: number;
  readonly sha256?: Uint8Array;
}

/**
 * Computes the digest of a regular file on a thread that reads it by itself: it waits for nobody who
 * works on the same bytes. Holes are not read.
 *
 * @param engineName of the segment codec whose CRC is the fastest here
 * @throws IngotError `source-unreadable`; the signal's reason
 */
export async function digestOfFile(
  path: string,
  engineName: string,
  {
    signal,
    onBytes,
  }: {
    readonly signal?: AbortSignal | undefined;
    readonly onBytes?: (doneBytes: number) => void;
  } = {},
): Promise<FileDigest> {
  signal?.throwIfAborted();
  const ended = Promise.withResolvers<FileDigest>();
  const stop = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(new URL('./file-digest-worker.ts', import.meta.url), {
    workerData: { path, engineName, stop },
    resourceLimits: { maxYoungGenerationSizeMb: 2 },
  });
  const onAbort = (): void => ended.reject(signal?.reason);
  signal?.addEventListener('abort', onAbort, { once: true });
  worker.on('message', ({ doneBytes, crc32, sha256 }: Told) => {
    onBytes?.(doneBytes);
    if (crc32 === undefined || sha256 === undefined) return;
    ended.resolve({ digest: digestFromBytes(sha256), crc32, sizeBytes: doneBytes });
  });
  worker.on('error', (cause) => {
    ended.reject(
      new IngotError('source-unreadable', `${path} cannot be read`, { path }, { cause }),
    );
  });
  const exited = new Promise<void>((resolve) => {
    worker.once('exit', () => resolve());
  });
  void exited.then(() => ended.reject(new Error('the thread of a digest has ended')));
  try {
    // The thread then ends by itself: it has nothing left to do.
    return await ended.promise;
  } catch (thrown) {
    // Not terminated: a thread that is ended while it loads the engine takes the process with it.
    Atomics.store(stop, 0, 1);
    await exited;
    throw thrown;
  } finally {
    signal?.removeEventListener('abort', onAbort);
  }
}
