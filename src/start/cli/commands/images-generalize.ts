import { mkdtemp, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type Command, Option } from '@commander-js/extra-typings';
import { formatBytes, IngotError, MIB, systemClock } from '../../../base/index.ts';
import { type ByteReader, ExtTree, readDiskLayout } from '../../../bytes/index.ts';
import { openFastestCodec } from '../../../keep/adapters/fastest-segment-codec.ts';
import { fileSpools } from '../../../keep/adapters/file-spool.ts';
import { type Image, ingestSnapshot } from '../../../keep/index.ts';
import {
  applySteps,
  checkFilesystem,
  type FilesystemInFile,
  shrinkFilesystem,
} from '../../../publish/generalize/adapters/e2fsprogs.ts';
import {
  formatName,
  GENERALIZE_RULES,
  type GeneralizeStep,
  planGeneralize,
  restoreImage,
} from '../../../publish/index.ts';
import { openFileTarget } from '../../../publish/restore/adapters/file-target.ts';
import type { DaemonClient } from '../../client/daemon-client.ts';
import { HttpIngestTarget } from '../../client/http-ingest-target.ts';
import { HttpRestoreFeed } from '../../client/http-restore-feed.ts';
import { openImportFile } from '../../client/open-import-source.ts';
import type { CliContext } from '../context.ts';
import { imageIdOf, openClient, PROFILE_OPTION } from '../support/daemon-access.ts';
import { imageJson } from '../support/image-views.ts';
import { spoolFolder } from '../support/spool-folder.ts';
import { writeData } from '../support/write-data.ts';

const RULE_NAMES = GENERALIZE_RULES.map(({ name }) => name);
/** Room for the first boot: new host keys, a journal, a few logs. */
const SHRINK_MARGIN_BYTES = 64 * MIB;

const EXAMPLES = `
Examples:
  ingot images generalize img-y22uq --name golden              a new image for many machines
  ingot images generalize img-y22uq --name golden --keep logs --shrink
  ingot images generalize img-y22uq --dry-run                  only list what would be removed

Removed: ${RULE_NAMES.join(', ')}.
The image itself stays as it is; the new one names it as its ancestor. Filesystems ext2, ext3 and
ext4 are changed with e2fsprogs in a temporary file; nothing is mounted, root is not needed.
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

async function temporaryFolder(
  parent: string,
): Promise<{ readonly path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(parent, 'ingot-generalize-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
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
  using progress = context.progress('generalize');
  // What was decoded is checked; a temporary file is not read back.
  const { onProgress } = progress;
  await restoreImage(feed, target, { codec, verify: false, signal: context.signal, onProgress });
}

interface GeneralizeRequest {
  readonly folder: string;
  readonly keeps: readonly string[];
  readonly isDryRun: boolean;
}

/** @returns what was (or would be) removed, of all filesystems of the file */
async function generalizeFile(
  context: CliContext,
  path: string,
  { folder, keeps, isDryRun }: GeneralizeRequest,
): Promise<GeneralizeStep[]> {
  const found: GeneralizeStep[] = [];
  const filesystems = await extFilesystems(path);
  if (filesystems.length === 0) {
    throw new IngotError(
      'source-unsupported',
      'no ext2, ext3 or ext4 filesystem is in the image; others cannot be changed without mounting',
    );
  }
  for (const filesystem of filesystems) {
    // An unclean journal may hold newer files than the tree shows.
    await checkFilesystem(filesystem, context.signal);
    const steps = await planFor(filesystem, keeps);
    found.push(...steps);
    if (isDryRun || steps.length === 0) continue;
    const call = { folder, signal: context.signal };
    const leftOut = await applySteps(filesystem, steps, call);
    for (const { path: name } of leftOut) {
      context.stderr.write(`left because of its name: ${formatName(name)}\n`);
    }
    await checkFilesystem(filesystem, context.signal);
    const rest = (await planFor(filesystem, keeps)).filter(({ action }) => action === 'remove');
    if (rest.length > leftOut.length) {
      throw new IngotError('filesystem-malformed', `${rest.length} files could not be removed`);
    }
  }
  return found;
}

async function planFor(
  { path, offsetBytes }: FilesystemInFile,
  keeps: readonly string[],
): Promise<GeneralizeStep[]> {
  await using reader = await fileReader(path);
  const range = { offsetBytes, sizeBytes: reader.sizeBytes - offsetBytes };
  const tree = await ExtTree.open(reader, range);
  return tree === undefined ? [] : await planGeneralize(tree, keeps);
}

async function extFilesystems(path: string): Promise<FilesystemInFile[]> {
  await using reader = await fileReader(path);
  const { filesystem, partitions } = await readDiskLayout(reader);
  if (filesystem === 'ext') return [{ path, offsetBytes: 0 }];
  return partitions
    .filter((partition) => partition.filesystem === 'ext')
    .map(({ offsetBytes }) => ({ path, offsetBytes }));
}

async function fileReader(path: string): Promise<ByteReader & AsyncDisposable> {
  const file = await open(path, 'r');
  const { size } = await file.stat();
  return {
    sizeBytes: size,
    read: async (offsetBytes, lengthBytes) => {
      const buffer = Buffer.alloc(lengthBytes);
      const { bytesRead } = await file.read(buffer, 0, lengthBytes, offsetBytes);
      if (bytesRead === lengthBytes) return buffer;
      throw new IngotError('source-truncated', `${path} ended at ${offsetBytes + bytesRead}`);
    },
    [Symbol.asyncDispose]: () => file.close(),
  };
}

async function shrinkFile(context: CliContext, path: string): Promise<void> {
  const [filesystem] = await extFilesystems(path);
  if (filesystem?.offsetBytes !== 0) {
    throw new IngotError('source-unsupported', 'a partitioned image cannot be shrunk');
  }
  const { signal } = context;
  const sizeBytes = await shrinkFilesystem(path, { marginBytes: SHRINK_MARGIN_BYTES, signal });
  context.stderr.write(`The image has ${formatBytes(sizeBytes)} now\n`);
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
  // What was removed lies in free blocks now, and must not come along.
  const request = { name: 'disk', freeSpace: 'zero', spoolFolder: folder, signal } as const;
  await using source = await openImportFile(path, request);
  const { codec } = await openFastestCodec();
  using progress = context.progress('import');
  return await ingestSnapshot({
    // The instant that the image shows is still that of its ancestor.
    source: { ...bound(source), facts: () => ({ ...source.facts(), ...ancestor.capture }) },
    target: new HttpIngestTarget(client),
    codec,
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

type ImportSource = Awaited<ReturnType<typeof openImportFile>>;

/** The same source as a plain object: its methods live on a class. */
function bound(source: ImportSource): ImportSource {
  return {
    sizeBytes: source.sizeBytes,
    mayChange: source.mayChange,
    pass: (kind) => source.pass(kind),
    facts: () => source.facts(),
    notices: () => source.notices(),
    [Symbol.asyncDispose]: () => source[Symbol.asyncDispose](),
  };
}

function listSteps({ stderr }: CliContext, steps: readonly GeneralizeStep[]): void {
  for (const { rule, action, path, sizeBytes } of steps) {
    const what = action === 'empty' ? 'empty ' : 'remove';
    stderr.write(`${what} ${formatName(path)} (${rule}, ${formatBytes(sizeBytes)})\n`);
  }
}

function stepJson({ rule, action, path, sizeBytes }: GeneralizeStep): unknown {
  return { rule, action, path: formatName(path), size: sizeBytes };
}
