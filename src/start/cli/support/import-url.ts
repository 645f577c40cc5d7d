import { z } from 'zod';
import { type Id, IngotError, isId } from '../../../base/index.ts';
import type { DiskFormat } from '../../../bytes/index.ts';
import { createImportSchema, importSchema } from '../../../serve/index.ts';
import { followJob } from '../../client/follow-job.ts';
import type { CliContext } from '../context.ts';
import { type DaemonOptions, openClient } from './daemon-access.ts';
import { imageJson } from './image-views.ts';
import { importedWords } from './import-capture.ts';
import { reportOf } from './job-end.ts';

/** What an import's job tells in the end; one of an older daemon has no notices. */
const importReportSchema = z.object({ notices: z.array(z.string()) });

/** What the daemon is told of a file that it fetches. */
export interface ImportUrlOptions extends DaemonOptions {
  readonly name: string;
  readonly description: string;
  readonly arch?: string | undefined;
  readonly ancestorId: Id<'img'> | undefined;
  readonly freeSpace?: 'zero' | 'keep' | undefined;
  readonly format?: DiskFormat | undefined;
  readonly sha256?: string | undefined;
  readonly quiet?: boolean | undefined;
  readonly json?: boolean | undefined;
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
    name: options.name,
    description: options.description,
    ...(options.arch === undefined ? {} : { arch: options.arch }),
    ancestor_id: options.ancestorId ?? null,
    url,
    ...(options.sha256 === undefined ? {} : { sha256: options.sha256 }),
    ...(options.format === undefined ? {} : { format: options.format }),
    free_space: options.freeSpace ?? 'keep',
  });
  if (!told.success) throw new IngotError('request-invalid', told.error.issues[0]?.message ?? '');
  const call = { method: 'POST', path: '/images' } as const;
  const begun = await client.json(importSchema, call, told.data);
  const jobId = begun.job?.id;
  if (jobId === undefined || !isId('job', jobId) || !isId('img', begun.image.id)) {
    throw new IngotError('daemon-protocol', 'the daemon began no import');
  }
  if (options.quiet !== true) context.stderr.write(`${begun.image.id} is being made\n`);
  using progress = context.progress('import');
  const report = importReportSchema.safeParse(
    reportOf(await followJob(client, jobId, progress.onProgress)),
  );
  progress[Symbol.dispose]();
  for (const notice of report.data?.notices ?? []) context.stderr.write(`note: ${notice}\n`);
  const image = await client.image(begun.image.id);
  if (options.quiet !== true) {
    context.stderr.write(`${importedWords(image, performance.now() - startedAt)}\n`);
  }
  context.stdout.write(
    options.json === true ? `${JSON.stringify(imageJson(image), null, 2)}\n` : `${image.id}\n`,
  );
}
