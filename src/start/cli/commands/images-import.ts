import { basename } from 'node:path';
import { type Command, Option } from '@commander-js/extra-typings';
import { formatBytes, formatDuration, IngotError, systemClock } from '../../../base/index.ts';
import { openSnapshotSource } from '../../../capture/adapters/open-snapshot-source.ts';
import {
  DEFAULT_MAX_FREEZE_MS,
  MAX_STALL_MS,
  type SnapshotSource,
} from '../../../capture/index.ts';
import { openFastestCodec } from '../../../keep/adapters/fastest-segment-codec.ts';
import { fileSpools } from '../../../keep/adapters/file-spool.ts';
import { type Image, ingestSnapshot } from '../../../keep/index.ts';
import { HttpIngestTarget } from '../../client/http-ingest-target.ts';
import { openImportFile, openImportStream } from '../../client/open-import-source.ts';
import { chooseProfile } from '../../settings/profiles.ts';
import type { CliContext } from '../context.ts';
import { imageIdOf, openClient, PROFILE_OPTION } from '../support/daemon-access.ts';
import { editCapture } from '../support/edit-disk-file.ts';
import { imageJson } from '../support/image-views.ts';
import { durationOption } from '../support/snapshot-output.ts';
import { spoolFolder } from '../support/spool-folder.ts';

const EXAMPLES = `
Examples:
  ingot images import disk.raw --name "web server"        a file, byte for byte
  ingot images import disk.img.xz --name debian-13         .gz, .xz and .zst are unpacked
  ssh host sudo ingot snapshot dump | ingot images import - --name web
  sudo ingot images import --source / --name golden        this machine while it runs

A mounted filesystem is read while it runs; only what changed meanwhile is read while it is frozen.
`;

interface ImportOptions {
  readonly source?: string | undefined;
  readonly freeSpace?: 'zero' | 'keep' | undefined;
  readonly maxFreeze?: number | undefined;
  readonly freeze: boolean;
  readonly generalize?: true | undefined;
  readonly shrink?: true | undefined;
  readonly spool?: string | undefined;
  readonly profile?: string | undefined;
}

/** `ingot images import`. */
export function registerImagesImport(images: Command, context: CliContext): void {
  images
    .command('import')
    .description('bring an image file, a stream or a running filesystem into the library')
    .argument('[file]', 'an image file; - is stdin')
    .option('--source <path>', 'capture instead: a folder of the filesystem, or a block device')
    .requiredOption('-n, --name <name>', "the image's name")
    .option('-d, --description <text>', 'its description', '')
    .option('-a, --arch <arch>', 'its CPU architecture')
    .option('--ancestor <image>', 'the image that it was made from')
    .addOption(
      new Option(
        '--free-space <how>',
        'free blocks (default: zero with --source, else keep)',
      ).choices(['zero', 'keep'] as const),
    )
    .option('--max-freeze <time>', 'end the freeze, and fail, after this long', durationOption)
    .option('--no-freeze', 'read while it changes; the copy is of no single instant')
    .option('--generalize', 'remove the traces of the machine (see images generalize)')
    .option('--shrink', 'make the filesystem as small as it can be, and the image with it')
    .option('--spool <dir>', 'where to put what memory cannot hold')
    .option('--quiet', 'no progress and no closing line')
    .option('--json', 'the image as JSON instead of its id')
    .option(...PROFILE_OPTION)
    .addHelpText('after', EXAMPLES)
    .action(async (file, options) => {
      if ((file === undefined) === (options.source === undefined)) {
        throw new IngotError('request-invalid', 'either a file or --source is needed');
      }
      const ancestorId = options.ancestor === undefined ? undefined : imageIdOf(options.ancestor);
      using client = openClient(context, options);
      // Before anything is read or frozen: a daemon that is not there ends it here.
      await client.login();
      await using captured = await openSource(context, file, options);
      await using edited = await openEdited(context, captured, options);
      const source = edited ?? captured;
      const { codec } = await openFastestCodec();
      const startedAt = performance.now();
      const folder = spoolFolder(options.spool, options.source);
      using progress = context.progress('import');
      const image = await ingestSnapshot({
        source,
        target: new HttpIngestTarget(client),
        codec,
        description: {
          name: options.name,
          description: options.description,
          kind: options.source === undefined ? 'upload' : 'snapshot',
          arch: options.arch ?? (options.source === undefined ? 'x86_64' : machineArch()),
          ancestorId,
          compatibilityMode: false,
        },
        onProgress: progress.onProgress,
        signal: context.signal,
        openSpool: fileSpools(folder),
        clock: systemClock,
      });
      progress[Symbol.dispose]();
      for (const notice of source.notices()) context.stderr.write(`note: ${notice}\n`);
      if (options.quiet !== true) {
        context.stderr.write(`${wordsOf(image, performance.now() - startedAt)}\n`);
      }
      context.stdout.write(
        options.json === true ? `${JSON.stringify(imageJson(image), null, 2)}\n` : `${image.id}\n`,
      );
    });
}

function openSource(
  context: CliContext,
  file: string | undefined,
  options: ImportOptions,
): Promise<SnapshotSource> {
  if (options.source !== undefined) return openLive(context, options.source, options);
  const request = {
    name: file === undefined || file === '-' ? 'stdin' : basename(file),
    freeSpace: options.freeSpace ?? ('keep' as const),
    spoolFolder: spoolFolder(options.spool, undefined),
    signal: context.signal,
  };
  return file === undefined || file === '-'
    ? openImportStream(context.stdin, request)
    : openImportFile(file, request);
}

/** Edits go to a temporary copy, so that neither the file nor the machine is changed. */
async function openEdited(
  context: CliContext,
  captured: SnapshotSource,
  { generalize, shrink, spool, source }: ImportOptions,
): Promise<SnapshotSource | undefined> {
  if (generalize !== true && shrink !== true) return undefined;
  return await editCapture(context, captured, {
    generalizes: generalize === true,
    shrinks: shrink === true,
    spoolFolder: spoolFolder(spool, source),
  });
}

/** Opens what runs; whatever would be written to while it is frozen must lie elsewhere. */
function openLive(
  context: CliContext,
  source: string,
  options: ImportOptions,
): Promise<SnapshotSource> {
  const { data } = chooseProfile(context.env, options.profile);
  const folder = spoolFolder(options.spool, source);
  return openSnapshotSource({
    source,
    freeSpace: options.freeSpace,
    freeze: options.freeze,
    limits: { maxFreezeMs: options.maxFreeze ?? DEFAULT_MAX_FREEZE_MS, maxStallMs: MAX_STALL_MS },
    forbiddenPaths: [
      { label: 'stdout', path: '/proc/self/fd/1' },
      { label: 'stderr', path: '/proc/self/fd/2' },
      { label: `the spool in ${folder}`, path: folder },
      ...(data === undefined ? [] : [{ label: `the library in ${data}`, path: data }]),
    ],
  });
}

function wordsOf(image: Image, elapsedMs: number): string {
  const { capture } = image;
  const frozen =
    capture.consistency === 'frozen' ? `, frozen for ${formatDuration(capture.freezeMs)}` : '';
  return (
    `Imported ${image.id} (${image.name}): ${formatBytes(image.virtualSizeBytes)}, ` +
    `${formatBytes(image.addedBytes)} added in ${formatDuration(elapsedMs)}${frozen}, ` +
    `consistency: ${capture.consistency}`
  );
}

/** This machine's architecture as Brightbox spells it. */
function machineArch(): string {
  const names: Partial<Record<NodeJS.Architecture, string>> = {
    x64: 'x86_64',
    ia32: 'i686',
    arm64: 'aarch64',
    arm: 'armv7l',
  };
  return names[process.arch] ?? process.arch;
}
