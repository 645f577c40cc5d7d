import { z } from 'zod';
import { type Id, IngotError, isId } from '../../../base/index.ts';
import type { DiskFormat } from '../../../bytes/index.ts';
import { type createImportSchema, importSchema } from '../../../serve/index.ts';
import type { DaemonClient } from '../../client/daemon-client.ts';
import { followJob } from '../../client/follow-job.ts';
import type { CliContext } from '../context.ts';
import { imageJson } from './image-views.ts';
import { importedWords } from './import-capture.ts';
import { reportOf } from './job-end.ts';

/** What an import's job tells in the end; one of an older daemon has no notices. */
const importReportSchema = z.object({ notices: z.array(z.string()) });

/** An import that the daemon works on. */
export interface BegunImport {
  readonly imageId: Id<'img'>;
  readonly jobId: Id<'job'>;
}

/** What the owner says of an image that the daemon makes by itself. */
export interface ImportDescription {
  readonly name: string;
  readonly description: string;
  readonly arch?: string | undefined;
  readonly ancestorId: Id<'img'> | undefined;
  readonly freeSpace?: 'zero' | 'keep' | undefined;
  readonly format?: DiskFormat | undefined;
}

type WireDescription = Pick<
  z.input<typeof createImportSchema>,
  'name' | 'description' | 'arch' | 'ancestor_id' | 'format' | 'free_space'
>;

/** Maps it to the request that begins the import. */
export function describedImport(told: ImportDescription): WireDescription {
  return {
    name: told.name,
    description: told.description,
    ...(told.arch === undefined ? {} : { arch: told.arch }),
    ancestor_id: told.ancestorId ?? null,
    ...(told.format === undefined ? {} : { format: told.format }),
    free_space: told.freeSpace ?? 'keep',
  };
}

/** What a command says of an import. */
export interface ImportWords {
  readonly quiet?: boolean | undefined;
  readonly json?: boolean | undefined;
}

/**
 * Lets the daemon make an image of what it gets by itself. Cancelling the command does not end this
 * call: who was told nothing could not take it back.
 *
 * @throws IngotError what the daemon refuses
 */
export async function beginImport(
  client: DaemonClient,
  told: z.input<typeof createImportSchema>,
): Promise<BegunImport> {
  const call = { method: 'POST', path: '/images', isCleanup: true } as const;
  const begun = await client.json(importSchema, call, told);
  const jobId = begun.job?.id;
  const imageId = begun.image.id;
  if (jobId === undefined || !isId('job', jobId) || !isId('img', imageId)) {
    throw new IngotError('daemon-protocol', 'the daemon began no import');
  }
  return { imageId, jobId };
}

/**
 * Waits for an import of the daemon, and says the image's id on stdout, notices and a closing line on
 * stderr.
 *
 * @throws IngotError the failures of the import
 */
export async function finishImport(
  context: CliContext,
  import_: BegunImport & { readonly client: DaemonClient; readonly startedAt: number },
  { quiet, json }: ImportWords,
): Promise<void> {
  const { client, imageId, jobId, startedAt } = import_;
  using progress = context.progress('import');
  const report = importReportSchema.safeParse(
    reportOf(await followJob(client, jobId, progress.onProgress)),
  );
  progress[Symbol.dispose]();
  for (const notice of report.data?.notices ?? []) context.stderr.write(`note: ${notice}\n`);
  const image = await client.image(imageId);
  if (quiet !== true) {
    context.stderr.write(`${importedWords(image, performance.now() - startedAt)}\n`);
  }
  context.stdout.write(
    json === true ? `${JSON.stringify(imageJson(image), null, 2)}\n` : `${image.id}\n`,
  );
}
