import type { Command } from '@commander-js/extra-typings';
import {
  type AugmentHeader,
  checkNewPayloadName,
  defaultClearsProvides,
  ROOTFS_IMAGE,
  withSoftwareVersion,
} from '../../../../bytes/index.ts';
import { openThreadedDigestStream } from '../../../../keep/adapters/threaded-digest-stream.ts';
import { type ArtifactPayload, writeArtifact } from '../../../../publish/index.ts';
import type { CliContext } from '../../context.ts';
import { chosenCompression, compressionOption, dataCoding } from './compression-option.ts';
import { openSigner, withKeyOptions } from './key-options.ts';
import { openModuleFile } from './payload-file.ts';
import { runWrite } from './run-write.ts';
import {
  collect,
  collectPairs,
  headerInfoOf,
  readMetaData,
  readScripts,
  withPayloadOptions,
  withWriteOptions,
} from './write-options.ts';
import { trackOrder } from './write-rootfs-image.ts';

const EXAMPLES = `
Examples:
  ingot artifact write module-image -T script -f update.sh -n config-7 -c qemu -o config-7.mender
  ingot artifact write module-image -T docker -m meta.json -n app-2 -c raspberrypi4
`;

interface AugmentOptions {
  readonly augmentType?: string | undefined;
  readonly augmentProvides?: ReadonlyMap<string, string> | undefined;
  readonly augmentDepends?: ReadonlyMap<string, string> | undefined;
  readonly augmentMetaData?: string | undefined;
  readonly augmentFile?: readonly string[] | undefined;
}

async function augmentOf(
  options: AugmentOptions,
  refuse: (words: string) => never,
): Promise<AugmentHeader | undefined> {
  const { augmentType, augmentProvides, augmentDepends, augmentMetaData, augmentFile } = options;
  if (augmentType === undefined) {
    const others = [augmentProvides, augmentDepends, augmentMetaData, augmentFile];
    if (others.some((value) => value !== undefined)) refuse('--augment-type is required');
    return undefined;
  }
  return {
    payloadType: augmentType,
    typeInfo: {
      type: augmentType,
      provides: augmentProvides ?? new Map(),
      depends: augmentDepends ?? new Map(),
      clearsProvides: [],
    },
    metaData: await readMetaData(augmentMetaData),
  };
}

async function openFiles(
  files: readonly string[] = [],
  isAugmented: boolean,
): Promise<ArtifactPayload[]> {
  const payloads: ArtifactPayload[] = [];
  for (const file of files) {
    const payload = await openModuleFile(file, isAugmented);
    checkNewPayloadName(payload.name);
    payloads.push(payload);
  }
  return payloads;
}

/** `ingot artifact write module-image`. */
export function registerWriteModuleImage(write: Command, context: CliContext): void {
  const bare = write
    .command('module-image')
    .description('write an artifact for an update module')
    .requiredOption('-T, --type <type>', 'type of the payload: the name of the update module')
    .option('-f, --file <file>', 'payload file; repeatable', collect)
    .option('-m, --meta-data <file>', 'JSON object for the update module')
    .option('--augment-type <type>', 'type of the augmented payload')
    .option('--augment-provides <key:value>', 'provides of it; repeatable', collectPairs)
    .option('--augment-depends <key:value>', 'depends of it; repeatable', collectPairs)
    .option('--augment-meta-data <file>', 'JSON object of it')
    .option('--augment-file <file>', 'file that the signature does not cover; repeatable', collect)
    .addOption(compressionOption());
  const keyed = withKeyOptions(
    withPayloadOptions(withWriteOptions(bare)),
    'private key to sign with',
  );
  const order = trackOrder(keyed as unknown as Command);
  keyed.addHelpText('after', EXAMPLES).action(async (options, command) => {
    const refuse = (words: string): never => command.error(`error: ${words}`);
    const { type } = options;
    const info = headerInfoOf(options, type, refuse);
    if (options.version === 2) refuse('version 2 of the format has no module images');
    const software = {
      artifactName: options.artifactName,
      filesystem: options.softwareFilesystem,
      name: options.softwareName ?? (type === ROOTFS_IMAGE ? type : undefined),
      version: options.softwareVersion,
      payloadType: type,
      usesDefaults: options.defaultSoftwareVersion,
    };
    const typeInfo = {
      type,
      provides: withSoftwareVersion(options.provides ?? new Map(), software, {
        overrides: order.lastIsSoftware,
      }),
      depends: options.depends ?? new Map(),
      clearsProvides: options.defaultClearsProvides
        ? defaultClearsProvides(options.clearsProvides ?? [], software)
        : (options.clearsProvides ?? []),
    };
    const header = {
      version: options.version,
      info,
      payload: { typeInfo, metaData: await readMetaData(options.metaData) },
      augment: await augmentOf(options, refuse),
      scripts: await readScripts(options.script),
    };
    const payloads = [
      ...(await openFiles(options.file, false)),
      ...(await openFiles(options.augmentFile, true)),
    ];
    const coding = await dataCoding(chosenCompression(command));
    const signer = await openSigner(options);
    await runWrite(context, options, (target, run) =>
      writeArtifact(
        {
          ...run,
          ...coding,
          signer,
          openDigestStream: openThreadedDigestStream,
          payloads,
          header: () => header,
        },
        target,
      ),
    );
  });
}
