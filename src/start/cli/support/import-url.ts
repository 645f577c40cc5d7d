import { IngotError } from '../../../base/index.ts';
import { createImportSchema } from '../../../serve/index.ts';
import type { CliContext } from '../context.ts';
import { type DaemonOptions, openClient } from './daemon-access.ts';
import {
  beginImport,
  describedImport,
  finishImport,
  type ImportDescription,
  type ImportWords,
} from './daemon-import.ts';

/** What the daemon is told of a file that it fetches. */
export interface ImportUrlOptions extends DaemonOptions, ImportDescription, ImportWords {
  readonly sha256?: string | undefined;
}

/**
 * Lets the daemon fetch an image, and waits for it.
 *
 * A cancelled command leaves the daemon at its work: `ingot images destroy` ends it.
 *
 * @throws IngotError the failures of the fetch and of the import
 */
export async function importFromUrl(
  context: CliContext,
  url: string,
  options: ImportUrlOptions,
): Promise<void> {
  const startedAt = performance.now();
  using client = openClient(context, options);
  const told = createImportSchema.safeParse({
    ...describedImport(options),
    url,
    ...(options.sha256 === undefined ? {} : { sha256: options.sha256 }),
  });
  if (!told.success) throw new IngotError('request-invalid', told.error.issues[0]?.message ?? '');
  const begun = await beginImport(client, told.data);
  if (options.quiet !== true) context.stderr.write(`${begun.imageId} is being made\n`);
  await finishImport(context, { ...begun, client, startedAt }, options);
}
