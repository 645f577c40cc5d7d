import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as threads from 'node:worker_threads';

/** Stands before the path of a thread's module in the arguments of a thread. */
const THREAD_MARK = '--bundled-thread';

/**
 * Gives what `node:worker_threads` is to a bundled module: its threads start from the bundle too.
 *
 * @param has whether there is a script that begins with a module
 */
export function bundledThreads(
  root: string,
  id: string,
  has: (path: string) => boolean,
): Record<string, unknown> {
  class BundledWorker extends threads.Worker {
    constructor(program: string | URL, options: threads.WorkerOptions = {}) {
      const path = program instanceof URL ? relative(root, fileURLToPath(program)) : '';
      if (!has(path)) super(program, options);
      else {
        const argv = [THREAD_MARK, id, path];
        super(new URL('./main.ts', import.meta.url), { ...options, argv });
      }
    }
  }
  return { ...threads, Worker: BundledWorker };
}

/** What a thread of a bundled program is to run. */
interface BundledThread {
  readonly id: string;
  readonly path: string;
}

/** @returns undefined in a program */
export function bundledThread(argv: readonly string[]): BundledThread | undefined {
  const [, , mark, id, path] = argv;
  if (threads.isMainThread || mark !== THREAD_MARK) return undefined;
  return id === undefined || path === undefined ? undefined : { id, path };
}
