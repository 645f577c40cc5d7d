import { basename } from 'node:path';
import { type Command, Option } from '@commander-js/extra-typings';
import { IngotError } from '../../../base/index.ts';
import { DISK_FORMATS, type DiskFormat } from '../../../bytes/index.ts';
import { openImageFile, openImageStream } from '../../../capture/adapters/open-image-file.ts';
import { openSnapshotSource } from '../../../capture/adapters/open-snapshot-source.ts';
import {
  DEFAULT_MAX_FREEZE_MS,
  MAX_STALL_MS,
  type SnapshotSource,
} from '../../../capture/index.ts';
import type { CliContext } from '../context.ts';
import { type DaemonOptions, imageIdOf, openClient } from '../support/daemon-access.ts';
import { durationOption } from '../support/duration-option.ts';
import { type EditOptions, GENERALIZE_OPTION, SHRINK_OPTION } from '../support/edit-disk-file.ts';
import { importCapture } from '../support/import-capture.ts';
import { importHanded } from '../support/import-handed.ts';
import { importFromUrl } from '../support/import-url.ts';
import { PROFILE_OPTION } from '../support/profile-option.ts';
import {
  PRECOPY_OPTION,
  RESUME_OPTION,
  refuseRemoteOptions,
  sshArgsOption,
  wireOption,
} from '../support/remote-options.ts';
import { importRemote } from '../support/remote-source.ts';
import { writtenWhileImporting } from '../support/snapshot-output.ts';
import { spoolFolder } from '../support/spool-folder.ts';

const EXAMPLES = `
Examples:
  ingot images import disk.raw --name "web server"        a file, byte for byte
  ingot images import disk.img.xz --name debian-13         .gz, .xz and .zst are unpacked
  ingot images import disk.qcow2 --name debian-13          qcow2, vmdk, vdi, vhdx, vpc: by qemu-img
  ssh host sudo ingot snapshot dump | ingot images import - --name web
  ingot images import https://example.org/disk.img.xz --name web    fetched by the daemon
  sudo ingot images import --source / --name golden        this machine while it runs
  ingot images import ssh://pi@device --name golden        another machine while it runs

A mounted filesystem is read while it runs; only what changed meanwhile is read while it is frozen.
ssh:// is the same as snapshot pull --name: --source is a path there.
`;

interface ImportOptions extends DaemonOptions, EditOptions {
  readonly name: string;
  readonly description: string;
  readonly arch?: string | undefined;
  readonly ancestor?: string | undefined;
  readonly source?: string | undefined;
  readonly freeSpace?: 'zero' | 'keep' | undefined;
  readonly format?: DiskFormat | undefined;
  readonly sha256?: string | undefined;
  readonly maxFreeze?: number | undefined;
  readonly freeze: boolean;
  readonly precopy: boolean;
  readonly resume?: string | undefined;
  readonly spool?: string | undefined;
  readonly quiet?: boolean | undefined;
  readonly json?: boolean | undefined;
}

/** `ingot images import`. */
export function registerImagesImport(images: Command, context: CliContext): void {
  images
    .command('import')
    .description('bring an image file, a stream or a running filesystem into the library')
    .argument(
      '[file]',
      'an image file, - for stdin, ssh://[user@]host[:port] to capture a machine, or a URL',
    )
    .option('--source <path>', 'capture instead: a folder of the filesystem, or a block device')
    .addOption(sshArgsOption())
    .addOption(wireOption())
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
    .addOption(
      new Option('--format <form>', 'what the file is (default: by its first bytes)').choices(
        DISK_FORMATS,
      ),
    )
    .option('--sha256 <digest>', 'of the file behind a URL, as it is sent')
    .option('--max-freeze <time>', 'end the freeze, and fail, after this long', durationOption)
    .option('--no-freeze', 'read while it changes; the copy is of no single instant')
    .option(...PRECOPY_OPTION)
    .option(...RESUME_OPTION)
    .option(...GENERALIZE_OPTION)
    .option(...SHRINK_OPTION)
    .option('--spool <dir>', 'where to put what memory cannot hold')
    .option('--quiet', 'no progress and no closing line')
    .option('--json', 'the image as JSON instead of its id')
    .option(...PROFILE_OPTION)
    .addHelpText('after', EXAMPLES)
    .action(async (file, options) => {
      if (file?.startsWith('ssh://') === true) {
        const source = options.source ?? '/';
        const freeSpace = options.freeSpace ?? 'zero';
        await importRemote(context, file, { ...options, source, freeSpace });
        return;
      }
      if (file !== undefined && /^https?:\/\//.test(file)) {
        await importUrl(context, file, options);
        return;
      }
      if (options.sha256 !== undefined) {
        throw new IngotError('request-invalid', '--sha256 is for URLs only');
      }
      if ((file === undefined) === (options.source === undefined)) {
        throw new IngotError('request-invalid', 'either a file or --source is needed');
      }
      refuseRemoteOptions(options);
      await importLocal(context, file, options);
    });
}

async function importUrl(context: CliContext, url: string, options: ImportOptions): Promise<void> {
  // What changes the disk happens here, and the daemon changes none.
  const here = [options.source, options.generalize, options.shrink].some(
    (option) => option !== undefined,
  );
  if (here) {
    throw new IngotError(
      'request-invalid',
      'the daemon fetches URLs as they are, without --source, --generalize, --shrink',
    );
  }
  const ancestorId = options.ancestor === undefined ? undefined : imageIdOf(options.ancestor);
  await importFromUrl(context, url, { ...options, ancestorId });
}

async function importLocal(
  context: CliContext,
  file: string | undefined,
  options: ImportOptions,
): Promise<void> {
  const ancestorId = options.ancestor === undefined ? undefined : imageIdOf(options.ancestor);
  using client = openClient(context, options);
  // Before anything is read or frozen: a daemon that is not there ends it here.
  await client.login();
  const isAsItIs = [options.source, options.generalize, options.shrink, options.spool].every(
    (option) => option === undefined,
  );
  if (file !== undefined && file !== '-' && isAsItIs) {
    if (await importHanded(context, file, { ...options, client, ancestorId })) return;
  }
  await using captured = await openSource(context, file, options);
  await importCapture(context, captured, {
    ...options,
    client,
    spoolFolder: spoolFolder(options.spool, options.source),
    description: {
      name: options.name,
      description: options.description,
      kind: options.source === undefined ? 'upload' : 'snapshot',
      arch: options.arch ?? (options.source === undefined ? 'x86_64' : machineArch()),
      ancestorId,
      compatibilityMode: false,
    },
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
    format: options.format,
    signal: context.signal,
  };
  return file === undefined || file === '-'
    ? openImageStream(context.stdin, request)
    : openImageFile(file, request);
}

/** Opens what runs; whatever would be written to while it is frozen must lie elsewhere. */
function openLive(
  context: CliContext,
  source: string,
  options: ImportOptions,
): Promise<SnapshotSource> {
  const folder = spoolFolder(options.spool, source);
  return openSnapshotSource({
    source,
    freeSpace: options.freeSpace,
    freeze: options.freeze,
    limits: { maxFreezeMs: options.maxFreeze ?? DEFAULT_MAX_FREEZE_MS, maxStallMs: MAX_STALL_MS },
    forbiddenPaths: writtenWhileImporting(context, { folder, profile: options.profile }),
  });
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
