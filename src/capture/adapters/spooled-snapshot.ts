import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { readDiskMap } from '../../bytes/index.ts';
import type { SnapshotSource } from '../snapshot-source.ts';
import { openFileSnapshot } from './file-snapshot.ts';
import { writeSparse } from './sparse-file.ts';

/** How a stream is taken in. */
export interface SpoolSetup {
  /** It must exist and have room for the stream. */
  readonly folder: string;
  /** How people know the stream. */
  readonly name: string;
  readonly freeSpace: 'zero' | 'keep';
  readonly signal: AbortSignal;
  /** Bytes that must stay free in the folder. */
  readonly keepFreeBytes?: number;
  /** Told the bytes so far. */
  readonly onBytes?: (doneBytes: number) => void;
}

/** A file that goes with its folder. */
export interface SpooledFile extends AsyncDisposable {
  readonly path: string;
}

/**
 * Takes a stream in whole, in a file of its own; longer runs of zeros become holes.
 *
 * @throws IngotError `target-full` when the folder has no room; the signal's reason
 */
export async function spoolFile(
  pieces: AsyncIterable<Uint8Array>,
  { folder, signal, keepFreeBytes = 0, onBytes }: SpoolSetup,
): Promise<SpooledFile> {
  await using undo = new AsyncDisposableStack();
  const own = await mkdtemp(join(folder, 'ingot-spool-'));
  undo.defer(() => rm(own, { recursive: true, force: true }));
  const path = join(own, 'stream');
  await writeSparse(pieces, {
    path,
    name: `the spool in ${folder}`,
    keepFreeBytes,
    signal,
    ...(onBytes === undefined ? {} : { onBytes }),
  });
  const owned = undo.move();
  return { path, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/**
 * Opens a spooled file as a source. The file goes with the source.
 *
 * @throws IngotError `source-unreadable`
 */
export async function openSpooled(
  file: SpooledFile,
  { name, freeSpace }: Pick<SpoolSetup, 'name' | 'freeSpace'>,
): Promise<SnapshotSource> {
  await using undo = new AsyncDisposableStack();
  undo.use(file);
  const source = undo.use(
    await openFileSnapshot({
      path: file.path,
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
