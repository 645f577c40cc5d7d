import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import {
  type Command,
  InvalidArgumentError,
  Option,
  type OptionValues,
} from '@commander-js/extra-typings';
import { errnoOf, IngotError } from '../../../../base/index.ts';
import {
  type FormatVersion,
  type HeaderInfo,
  isScriptName,
  type JsonValue,
  nameFaults,
  parseJson,
  type StateScript,
} from '../../../../bytes/index.ts';

const MAX_SCRIPT_BYTES = 16 * 1024 * 1024;

/** Gathers the values of an option that may be given several times. */
export function collect(value: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), value];
}

/** Reads `KEY:VALUE`; the last of one key wins. */
export function collectPairs(
  text: string,
  before: ReadonlyMap<string, string> | undefined,
): ReadonlyMap<string, string> {
  const colon = text.indexOf(':');
  if (colon < 1) throw new InvalidArgumentError('it has the form KEY:VALUE.');
  return new Map([...(before ?? []), [text.slice(0, colon), text.slice(colon + 1)]]);
}

const SIZE_UNITS: Readonly<Record<string, number>> = {
  '': 1,
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
};

/** Reads a size such as `5MB` or `1.5GB`, in decimal units as mender-artifact has them. */
function sizeOption(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([KMGT]?B?)$/i.exec(text.trim());
  const unit = (match?.[2] ?? '').toUpperCase();
  const factor = SIZE_UNITS[unit.length === 1 && unit !== 'B' ? `${unit}B` : unit];
  if (match === null || factor === undefined) {
    throw new InvalidArgumentError('such as 5MB or 1.5GB.');
  }
  return Math.floor(Number(match[1]) * factor);
}

/** Reads `-v`: 2 or 3. */
function versionOption(text: string): FormatVersion {
  if (text === '2') return 2;
  if (text === '3') return 3;
  throw new InvalidArgumentError('versions 2 and 3 are written.');
}

/** Options that all `write` commands have. */
export function withWriteOptions<A extends unknown[], O extends OptionValues>(
  command: Command<A, O>,
) {
  return command
    .requiredOption('-n, --artifact-name <name>', 'name of the artifact (of the release)')
    .option('-c, --compatible-types <type>', 'kind of device that it fits; repeatable', collect)
    .option('-t, --device-type <type>', 'the same as --compatible-types; repeatable', collect)
    .option('-o, --output-path <file>', 'where to write; - is stdout', 'artifact.mender')
    .addOption(
      new Option('-v, --version <version>', 'version of the format')
        .argParser(versionOption)
        .default(3 as FormatVersion),
    )
    .option(
      '-N, --artifact-name-depends <name>',
      'artifact that must be installed; repeatable',
      collect,
    )
    .option('-g, --provides-group <group>', 'group that it puts the device in')
    .option('-G, --depends-groups <group>', 'group that the device must be in; repeatable', collect)
    .option('-d, --depends <key:value>', 'what the device must have; repeatable', collectPairs)
    .option('-p, --provides <key:value>', 'what it gives to the device; repeatable', collectPairs)
    .option('--clears-provides <pattern>', 'provides that installing clears; repeatable', collect)
    .option('--no-progress', 'no progress on stderr');
}

/** Options of commands with a payload. */
export function withPayloadOptions<A extends unknown[], O extends OptionValues>(
  command: Command<A, O>,
) {
  return command
    .option('-s, --script <path>', 'state script, or a folder of them; repeatable', collect)
    .option('--no-default-clears-provides', 'clear only what --clears-provides names')
    .option('--no-default-software-version', 'write no software version of its own accord')
    .option('--software-name <name>', 'second part of the key of the software version')
    .option('--software-version <version>', 'value of it (default: the artifact name)')
    .option('--software-filesystem <name>', 'first part of the key (default: rootfs-image)')
    .option('--max-artifact-size <size>', 'fail, and leave nothing, above this size', sizeOption)
    .option('--warn-artifact-size <size>', 'warn above this size', sizeOption);
}

/** The parts of the options that become header-info. */
export interface NamingOptions {
  readonly artifactName: string;
  readonly compatibleTypes?: readonly string[] | undefined;
  readonly deviceType?: readonly string[] | undefined;
  readonly artifactNameDepends?: readonly string[] | undefined;
  readonly providesGroup?: string | undefined;
  readonly dependsGroups?: readonly string[] | undefined;
}

/**
 * Makes header-info of the options.
 *
 * @param refuse ends the command with a usage error
 */
export function headerInfoOf(
  options: NamingOptions,
  payloadType: string | null,
  refuse: (words: string) => never,
): HeaderInfo {
  const { compatibleTypes = [], deviceType = [] } = options;
  if (compatibleTypes.length > 0 && deviceType.length > 0) {
    refuse('--device-type and --compatible-types are the same; give one of them');
  }
  const deviceTypes = compatibleTypes.length > 0 ? compatibleTypes : deviceType;
  if (deviceTypes.length === 0) refuse('--compatible-types is required');
  if (/\s/.test(options.artifactName)) refuse('--artifact-name must not hold a blank');
  const info = {
    payloadType,
    name: options.artifactName,
    group: options.providesGroup,
    dependsNames: options.artifactNameDepends ?? [],
    deviceTypes,
    dependsGroups: options.dependsGroups ?? [],
  };
  for (const fault of nameFaults(info)) refuse(fault);
  return info;
}

async function readScript(path: string): Promise<StateScript> {
  const name = basename(path);
  if (!isScriptName(name)) {
    throw new IngotError(
      'request-invalid',
      `${name} is no name of a state script, such as ArtifactInstall_Enter_10_stop`,
      { name },
    );
  }
  const { mode, size } = await stat(path);
  if (size > MAX_SCRIPT_BYTES) {
    throw new IngotError('request-invalid', `the state script ${path} has ${size} bytes`, { size });
  }
  return { name, mode: mode & 0o777, content: await readFile(path) };
}

/**
 * Reads state scripts; a folder stands for all files in it.
 *
 * @throws IngotError `file-not-found`, `request-invalid` for other names
 */
export async function readScripts(paths: readonly string[] = []): Promise<StateScript[]> {
  const scripts: StateScript[] = [];
  for (const path of paths) {
    try {
      const isFolder = (await stat(path)).isDirectory();
      const files = isFolder
        ? (await readdir(path)).sort().map((name) => join(path, name))
        : [path];
      for (const file of files) scripts.push(await readScript(file));
    } catch (cause) {
      if (errnoOf(cause) !== 'ENOENT') throw cause;
      throw new IngotError('file-not-found', `no state script ${path}`, { path }, { cause });
    }
  }
  return scripts;
}

/**
 * Reads a file of metadata: a JSON object.
 *
 * @returns undefined for an empty object, or when no file is named
 * @throws IngotError `file-not-found`, `request-invalid`
 */
export async function readMetaData(
  path: string | undefined,
): Promise<ReadonlyMap<string, JsonValue> | undefined> {
  if (path === undefined) return undefined;
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    throw new IngotError('file-not-found', `no metadata file ${path}`, { path }, { cause });
  }
  const value = parseJson(bytes, path);
  if (!(value instanceof Map)) {
    throw new IngotError('request-invalid', `${path} holds no JSON object`, { path });
  }
  return value.size === 0 ? undefined : value;
}
