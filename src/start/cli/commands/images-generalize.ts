import { join } from 'node:path';
import { type Command, Option } from '@commander-js/extra-typings';
import { IngotError, systemClock } from '../../../base/index.ts';
import { openFastestCodec } from '../../../keep/adapters/fastest-segment-codec.ts';
import { fileSpools } from '../../../keep/adapters/file-spool.ts';
import { openChunkWorkers } from '../../../keep/adapters/thread-chunk-workers.ts';
import { type Image, ingestSnapshot } from '../../../keep/index.ts';
import {
  formatName,
  GENERALIZE_RULES,
  type GeneralizeStep,
  restoreImage,
} from '../../../publish/index.ts';
import { openFileTarget } from '../../../publish/restore/adapters/file-target.ts';
import type { DaemonClient } from '../../client/daemon-client.ts';
import { HttpIngestTarget } from '../../client/http-ingest-target.ts';
import { HttpRestoreFeed } from '../../client/http-restore-feed.ts';
import type { CliContext } from '../context.ts';
import { imageIdOf, openClient } from '../support/daemon-access.ts';
import {
  generalizeFile,
  listSteps,
  openEditedFile,
  shrinkFile,
  temporaryFolder,
} from '../support/edit-disk-file.ts';
import { imageJson } from '../support/image-views.ts';
import { PROFILE_OPTION } from '../support/profile-option.ts';
import { spoolFolder } from '../support/spool-folder.ts';
import { writeData } from '../support/write-data.ts';

const RULE_NAMES = GENERALIZE_RULES.map(({ name }) => name);
const EXAMPLES = `
Examples:
  ingot images generalize img-y22uq --name golden              a new image for many machines
  ingot images generalize img-y22uq --name golden --keep logs --shrink
  ingot images generalize img-y22uq --dry-run                  only list what would be removed

Removed: ${RULE_NAMES.join(', ')}.
The image itself stays as it is; the new one names it as its ancestor. The changes
are made in a temporary file: to ext2, ext3 and ext4 with e2fsprogs, without mounting and root; XFS
and btrfs are mounted where nobody else sees it, which only root can do (not with --dry-run).
`;

/** `ingot images generalize`. */
export function registerImagesGeneralize(images: Command, context: CliContext): void {
  images
    .command('generalize')
    .description('make an image without the traces of the machine that it was taken from')
    .argument('<image>', 'its id')
    .option('-n, --name <name>', 'name of the new image')
    .addOption(
      new Option('--keep <rule...>', 'leave these traces')
        .choices(RULE_NAMES)
        .default([] as string[]),
    )
    .option('--shrink', 'make the filesystem as small as it can be, and the image with it')
    .option('--dry-run', 'only list what would be removed')
    .option('--spool <dir>', 'where the temporary file goes')
    .option('--quiet', 'do not list what was removed')
    .option('--json', 'the new image and what was removed as JSON')
    .option(...PROFILE_OPTION)
    .addHelpText('after', EXAMPLES)
    .action(async (id, options) => {
      const { name } = options;
      if (name === undefined && options.dryRun !== true) {
        throw new IngotError('request-invalid', 'the new image needs a --name');
      }
      using client = openClient(context, options);
      const ancestor = await client.image(imageIdOf(id));
      await using folder = await temporaryFolder(spoolFolder(options.spool, undefined));
      const path = join(folder.path, 'disk');
      await restoreTo(context, client, ancestor, path);
      const removed = await generalizeFile(context, path, {
        folder: folder.path,
        keeps: options.keep,
        isDryRun: options.dryRun === true,
      });
      if (options.quiet !== true && options.json !== true) listSteps(context, removed);
      if (name === undefined || options.dryRun === true) return;
      if (options.shrink === true) await shrinkFile(context, path);
      const image = await importFile(context, client, { path, name, ancestor });
      const facts = { ...imageJson(image), removed: removed.map(stepJson) };
      await writeData(
        context,
        options.json === true ? `${JSON.stringify(facts, null, 2)}\n` : `${image.id}\n`,
      );
    });
}

async function restoreTo(
  context: CliContext,
  client: DaemonClient,
  image: Image,
  path: string,
): Promise<void> {
  await using feed = await HttpRestoreFeed.open(client, image.id);
  await using target = await openFileTarget(path, { sizeBytes: feed.sizeBytes, mode: 'new' });
  const { codec } = await openFastestCodec();
  await using workers = openChunkWorkers(codec.name);
  using progress = context.progress('generalize');
  // What was decoded is checked; a temporary file is not read back.
  const { onProgress } = progress;
  await restoreImage(feed, target, { workers, verify: false, signal: context.signal, onProgress });
}

async function importFile(
  context: CliContext,
  client: DaemonClient,
  {
    path,
    name,
    ancestor,
  }: { readonly path: string; readonly name: string; readonly ancestor: Image },
): Promise<Image> {
  const { signal } = context;
  const folder = spoolFolder(undefined, undefined);
  // The instant that the image shows is still that of its ancestor.
  const { capture } = ancestor;
  await using source = await openEditedFile(context, path, { capture, spoolFolder: folder });
  const { codec } = await openFastestCodec();
  await using workers = openChunkWorkers(codec.name);
  using progress = context.progress('import');
  return await ingestSnapshot({
    source,
    target: new HttpIngestTarget(client),
    workers,
    description: {
      name,
      description: `${ancestor.id} without the traces of its machine`,
      kind: ancestor.kind,
      arch: ancestor.arch,
      ancestorId: ancestor.id,
      compatibilityMode: ancestor.compatibilityMode,
    },
    onProgress: progress.onProgress,
    signal,
    openSpool: fileSpools(folder),
    clock: systemClock,
  });
}

function stepJson({ rule, action, path, sizeBytes }: GeneralizeStep): unknown {
  return { rule, action, path: formatName(path), size: sizeBytes };
}
