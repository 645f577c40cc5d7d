import { createWriteStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { readDiskMap } from '../../bytes/index.ts';
import type { SnapshotSource } from '../snapshot-source.ts';
import { openFileSnapshot } from './file-snapshot.ts';
import { targetFailure } from './target-failure.ts';

/**
 * Takes a stream in whole, in a file of its own, and opens it as a source.
 *
 * A stream can be read once and a capture reads where it likes. The file goes with the source.
 *
 * @param setup `folder` must exist and have room for the stream; `name` is how people know it
 * @throws IngotError `target-full` when the folder has no room; the signal's reason
 */
export async function spoolSnapshot(
  stream: Readable,
  {
    folder,
    name,
    freeSpace,
    signal,
  }: {
    readonly folder: string;
    readonly name: string;
    readonly freeSpace: 'zero' | 'keep';
    readonly signal: AbortSignal;
  },
): Promise<SnapshotSource> {
  await using undo = new AsyncDisposableStack();
  const own = await mkdtemp(join(folder, 'ingot-spool-'));
  undo.defer(() => rm(own, { recursive: true, force: true }));
  const path = join(own, 'stream');
  try {
    await pipeline(stream, createWriteStream(path, { mode: 0o600 }), { signal });
  } catch (thrown) {
    signal.throwIfAborted();
    throw targetFailure(thrown, `the spool in ${folder}`);
  }
  const source = undo.use(
    await openFileSnapshot({
      path,
      name,
      freeSpace,
      readMap: (disk, state) => readDiskMap(disk, { state }),
    }),
  );
  const owned = undo.move();
  return {
    sizeBytes: source.sizeBytes,
    mayChange: source.mayChange,
    pass: (kind) => source.pass(kind),
    facts: () => source.facts(),
    notices: () => source.notices(),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
