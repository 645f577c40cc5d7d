import type { Clock, Log } from '../../base/index.ts';
import { DirectoryDisk } from '../../keep/adapters/directory-disk.ts';
import { openCodec } from '../../keep/adapters/fastest-segment-codec.ts';
import { openSqliteCatalogue } from '../../keep/adapters/sqlite-catalogue.ts';
import { openChunkWorkers } from '../../keep/adapters/thread-chunk-workers.ts';
import { openThreadedDigestStream } from '../../keep/adapters/threaded-digest-stream.ts';
import { type ChunkWorkers, DirectoryLibrary, type SegmentCodec } from '../../keep/index.ts';
import type { DaemonSettings } from '../settings/daemon-settings.ts';

/** An open library and the engine that it codes with. Disposal closes it. */
interface OpenLibrary extends AsyncDisposable {
  readonly library: DirectoryLibrary;
  readonly codec: SegmentCodec;
  readonly workers: ChunkWorkers;
}

/**
 * Opens the library in a data directory that exists, on its disk and with its embedded catalogue.
 *
 * @param options `isRebuild` makes the index again
 * @throws IngotError `library-busy`, `library-unusable`, `version-unknown`, `tool-missing`
 */
export async function openDirectoryLibrary(
  folder: string,
  options: {
    readonly engine: DaemonSettings['engine'];
    readonly clock: Clock;
    readonly log: Log;
    readonly quietMs?: number;
    readonly isRebuild?: boolean;
  },
): Promise<OpenLibrary> {
  const { codec } = await openCodec(options.engine);
  await using undo = new AsyncDisposableStack();
  const workers = undo.use(openChunkWorkers(codec.name));
  const library = await DirectoryLibrary.open({
    disk: new DirectoryDisk(folder),
    openCatalogue: (lost) => openSqliteCatalogue(folder, lost),
    codec,
    workers,
    clock: options.clock,
    log: options.log,
    openDigestStream: openThreadedDigestStream,
    limits: options.quietMs === undefined ? {} : { quietMs: options.quietMs },
    isRebuild: options.isRebuild ?? false,
  });
  undo.use(library);
  const owned = undo.move();
  return { library, codec, workers, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}
