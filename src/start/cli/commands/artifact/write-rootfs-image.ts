import { tmpdir } from 'node:os';
import type { Command } from '@commander-js/extra-typings';
import { type Digest, type DigestStream, formatDuration } from '../../../../base/index.ts';
import {
  type ArtifactHeader,
  checkNewPayloadName,
  ROOTFS_IMAGE,
  type RootfsDescription,
  rootfsHeader,
} from '../../../../bytes/index.ts';
import type { SnapshotSource } from '../../../../capture/index.ts';
import {
  type ArtifactPayload,
  writeArtifact,
  writeArtifactOfSegments,
} from '../../../../publish/index.ts';
import type { CliContext } from '../../context.ts';
import { durationOption } from '../../support/duration-option.ts';
import { PROFILE_OPTION } from '../../support/profile-option.ts';
import {
  PRECOPY_OPTION,
  RESUME_OPTION,
  refuseRemoteOptions,
  wireOption,
} from '../../support/remote-options.ts';
import { chosenCompression, compressionOption, dataCoding } from './compression-option.ts';
import { openSigner, withKeyOptions } from './key-options.ts';
import { type SpooledPayload, spoolPayload } from './payload-spool.ts';
import { openRootfsPayload } from './rootfs-payload.ts';
import { runWrite } from './run-write.ts';
import {
  collect,
  headerInfoOf,
  readScripts,
  withPayloadOptions,
  withWriteOptions,
} from './write-options.ts';

const EXAMPLES = `
Examples:
  ingot artifact write rootfs-image -f root.ext4 -n release-1 -c raspberrypi4 -o release-1.mender
  ingot artifact write rootfs-image -f root.ext4.gz -n release-1 -c qemu -k private.pem
  ingot artifact write rootfs-image -f / -n golden-1 -c raspberrypi4 -o /media/usb/golden-1.mender
  ingot artifact write rootfs-image -f ssh://pi@device -n golden-1 -c raspberrypi4 -o golden-1.mender
  ingot artifact write rootfs-image -f img-y22uq -n release-1 -c qemu -o - | ssh host 'cat > r.mender'
`;

/**
 * Whether the provide of the software version goes over one that `-p` gave: as in mender-artifact,
 * where a `--software-…` option stands behind it.
 */
export function trackOrder(command: Command): { readonly lastIsSoftware: boolean } {
  const seen = { lastIsSoftware: true };
  command.on('option:provides', () => {
    seen.lastIsSoftware = false;
  });
  for (const option of ['software-name', 'software-version', 'software-filesystem']) {
    command.on(`option:${option}`, () => {
      seen.lastIsSoftware = true;
    });
  }
  return seen;
}

function checksumKey(options: {
  readonly checksumProvide: boolean;
  readonly legacyRootfsImageChecksum?: boolean | undefined;
}): string | undefined {
  if (!options.checksumProvide) return undefined;
  return options.legacyRootfsImageChecksum === true
    ? 'rootfs_image_checksum'
    : 'rootfs-image.checksum';
}

/** `ingot artifact write rootfs-image`. */
export function registerWriteRootfsImage(write: Command, context: CliContext): void {
  const bare = write
    .command('rootfs-image')
    .description('write an artifact with the image of a root filesystem')
    .requiredOption(
      '-f, --file <file>',
      'image: a file (also .gz, .xz, .zst), a pipe or -, a mount point, img-…, or ssh://…',
    )
    .option('--no-checksum-provide', 'write no checksum into provides, for old clients')
    .option('--legacy-rootfs-image-checksum', 'write it under the old name rootfs_image_checksum')
    .option('-S, --ssh-args <arg>', 'argument for ssh, with -f ssh://…; repeatable', collect)
    .option('--source <path>', 'with -f ssh://…: a folder or block device there', '/')
    .addOption(wireOption())
    .option(...PRECOPY_OPTION)
    .option(...RESUME_OPTION)
    .option('--max-freeze <time>', 'end the freeze, and fail, after this long', durationOption)
    .option('--no-freeze', 'read what is mounted while it changes: of no single instant')
    .option(...PROFILE_OPTION)
    .option(
      '--tmp <folder>',
      'where a pipe is spooled (default: TMPDIR); nothing else is copied to temporary files',
    )
    .addOption(compressionOption());
  const keyed = withKeyOptions(
    withPayloadOptions(withWriteOptions(bare)),
    'private key to sign with',
  );
  const order = trackOrder(keyed as unknown as Command);
  keyed.addHelpText('after', EXAMPLES).action(async (options, command) => {
    const info = headerInfoOf(options, ROOTFS_IMAGE, (words) => command.error(`error: ${words}`));
    const description: RootfsDescription = {
      version: options.version,
      info,
      software: {
        filesystem: options.softwareFilesystem,
        name: options.softwareName,
        version: options.softwareVersion,
        usesDefaults: options.defaultSoftwareVersion,
      },
      softwareOverrides: order.lastIsSoftware,
      provides: options.provides ?? new Map(),
      depends: options.depends ?? new Map(),
      clearsProvides: options.clearsProvides ?? [],
      addsDefaultClears: options.defaultClearsProvides,
      checksumKey: checksumKey(options),
      scripts: await readScripts(options.script),
    };
    if (!options.file.startsWith('ssh://')) refuseRemoteOptions(options);
    const compression = chosenCompression(command);
    const signer = await openSigner(options);
    await using payload = await openRootfsPayload(options.file, { ...options, context });
    const header = (digest: Digest): ArtifactHeader =>
      withProvides(rootfsHeader(description, digest), payload.provides);
    const { coded, live } = payload;
    checkNewPayloadName(payload.plain.name);
    const isOnePass =
      options.outputPath !== '-' &&
      ['gzip', 'none'].includes(compression) &&
      payload.plain.sizeBytes !== undefined;
    await using spooled =
      payload.isReadOnce && !isOnePass
        ? await spool(context, payload.plain, options.tmp ?? tmpdir())
        : undefined;
    const plain = spooled?.payload ?? payload.plain;
    // Nothing is said while something is frozen whose pipe may end on it.
    const progress = options.progress && (live === undefined || !(await isPipe(2)));
    await runWrite(context, { ...options, progress }, async (target, run) =>
      coded !== undefined && compression === 'gzip'
        ? await writeArtifactOfSegments(
            { ...run, signer, payload: coded, header: header(coded.digest) },
            target,
          )
        : await writeArtifact(
            {
              ...run,
              ...(await dataCoding(compression)),
              signer,
              openDigestStream: await threadedDigests(),
              payloads: [plain],
              header: ([digest]) => header(digest as Digest),
            },
            target,
          ),
    );
    await payload.delivered?.();
    if (live !== undefined && options.progress) sayFreeze(context, live);
  });
}

/** Puts a payload that can be read only once where it can be read again, and says so. */
async function spool(
  context: CliContext,
  payload: ArtifactPayload,
  folder: string,
): Promise<SpooledPayload> {
  context.stderr.write(`note: ${payload.name} is read once, so it is spooled in ${folder}\n`);
  return await spoolPayload(payload, folder, context.signal);
}

function sayFreeze(context: CliContext, source: SnapshotSource): void {
  const { freezeMs, consistency } = source.facts();
  for (const notice of source.notices()) context.stderr.write(`note: ${notice}\n`);
  context.stderr.write(`frozen for ${formatDuration(freezeMs)}, consistency: ${consistency}\n`);
}

/** Threads are loaded for whom hashes: an image of the library brings its digest. */
async function threadedDigests(): Promise<() => DigestStream> {
  const { openThreadedDigestStream } = await import(
    '../../../../keep/adapters/threaded-digest-stream.ts'
  );
  return openThreadedDigestStream;
}

async function isPipe(fd: number): Promise<boolean> {
  return (await import('../../support/snapshot-output.ts')).isPipe(fd);
}

/** Adds what a device provides, as far as the artifact says nothing else. */
function withProvides(
  header: ArtifactHeader,
  provides: ReadonlyMap<string, string> | undefined,
): ArtifactHeader {
  if (provides === undefined || provides.size === 0) return header;
  const { payload } = header;
  const all = new Map([...provides, ...payload.typeInfo.provides]);
  return { ...header, payload: { ...payload, typeInfo: { ...payload.typeInfo, provides: all } } };
}
