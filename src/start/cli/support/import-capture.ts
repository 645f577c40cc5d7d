import { formatBytes, formatDuration, systemClock } from '../../../base/index.ts';
import type { SnapshotSource } from '../../../capture/index.ts';
import { openFastestCodec } from '../../../keep/adapters/fastest-segment-codec.ts';
import { fileSpools } from '../../../keep/adapters/file-spool.ts';
import { openChunkWorkers } from '../../../keep/adapters/thread-chunk-workers.ts';
import { type Image, type ImageDescription, ingestSnapshot } from '../../../keep/index.ts';
import type { DaemonClient } from '../../client/daemon-client.ts';
import { HttpIngestTarget } from '../../client/http-ingest-target.ts';
import type { CliContext } from '../context.ts';
import { type EditOptions, openEdited } from './edit-disk-file.ts';
import { imageJson } from './image-views.ts';

/** How a capture becomes an image of the library. */
export interface ImportRequest extends EditOptions {
  readonly client: DaemonClient;
  readonly description: ImageDescription;
  /** On a filesystem that the capture does not freeze. */
  readonly spoolFolder: string;
  readonly quiet?: boolean | undefined;
  readonly json?: boolean | undefined;
}

/**
 * Takes a capture into the library and says the image's id on stdout, notices and a closing line on
 * stderr.
 *
 * @param captured stays the caller's
 * @throws IngotError the failures of the source, of edits and of the daemon
 */
export async function importCapture(
  context: CliContext,
  captured: SnapshotSource,
  { client, description, spoolFolder, ...options }: ImportRequest,
): Promise<void> {
  const startedAt = performance.now();
  await using edited = await openEdited(context, captured, { ...options, spoolFolder });
  const source = edited ?? captured;
  const { codec } = await openFastestCodec();
  await using workers = openChunkWorkers(codec.name);
  using progress = context.progress('import');
  const image = await ingestSnapshot({
    source,
    target: new HttpIngestTarget(client),
    workers,
    description,
    onProgress: progress.onProgress,
    signal: context.signal,
    openSpool: fileSpools(spoolFolder),
    clock: systemClock,
  });
  progress[Symbol.dispose]();
  for (const notice of source.notices()) context.stderr.write(`note: ${notice}\n`);
  if (options.quiet !== true) {
    context.stderr.write(`${importedWords(image, performance.now() - startedAt)}\n`);
  }
  context.stdout.write(
    options.json === true ? `${JSON.stringify(imageJson(image), null, 2)}\n` : `${image.id}\n`,
  );
}

/** The closing line of an import. */
export function importedWords(image: Image, elapsedMs: number): string {
  const { capture } = image;
  const frozen =
    capture.consistency === 'frozen' ? `, frozen for ${formatDuration(capture.freezeMs)}` : '';
  return (
    `Imported ${image.id} (${image.name}): ${formatBytes(image.virtualSizeBytes)}, ` +
    `${formatBytes(image.addedBytes)} added in ${formatDuration(elapsedMs)}${frozen}, ` +
    `consistency: ${capture.consistency}`
  );
}
