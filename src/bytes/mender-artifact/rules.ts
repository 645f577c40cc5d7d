import { IngotError } from '../../base/index.ts';
import { malformedAt } from './json-shape.ts';

/** Name, groups and depends are at most this many bytes (mender-artifact 4.1.1 and later). */
const MAX_NAME_BYTES = 256;

/** The C++ client's limit for `data/0000/NAME` in the manifest is 100 characters. */
const MAX_PAYLOAD_NAME = 100 - 'data/0000/'.length;

const STATES = [
  'ArtifactInstall',
  'ArtifactReboot',
  'ArtifactCommit',
  'ArtifactRollback',
  'ArtifactRollbackReboot',
  'ArtifactFailure',
];

/** Whether a payload file may have this name: ASCII letters, digits, `.`, `,`, `_`, `-`. */
export function isPayloadName(name: string): boolean {
  return /^[A-Za-z0-9_\-.,]+$/.test(name) && name !== '.' && name !== '..';
}

/**
 * Checks the name of a payload file that is to be written.
 *
 * @throws IngotError `request-invalid`
 */
export function checkNewPayloadName(name: string): void {
  if (!isPayloadName(name)) {
    throw new IngotError(
      'request-invalid',
      `the payload file name ${JSON.stringify(name)} may hold only letters, digits and ".,_-"`,
      { name },
    );
  }
  if (name.length > MAX_PAYLOAD_NAME) {
    throw new IngotError(
      'request-invalid',
      `the payload file name has ${name.length} characters; clients take at most ${MAX_PAYLOAD_NAME}`,
      { name },
    );
  }
}

/** Whether a state script may have this name, such as `ArtifactInstall_Enter_10_stop-app`. */
export function isScriptName(name: string): boolean {
  const match = /^([A-Za-z]+)_(Enter|Leave|Error)_[0-9][0-9](_[^\s/]+)?$/.exec(name);
  return match !== null && STATES.includes(match[1] ?? '');
}

/** @returns what is wrong with an artifact name, group or depends value, or undefined */
function nameFault(value: string): string | undefined {
  const bytes = Buffer.byteLength(value);
  if (bytes > MAX_NAME_BYTES) return `has ${bytes} bytes, more than ${MAX_NAME_BYTES}`;
  // \p{C} are control, format and unassigned characters, \p{Z} separators; a blank is fine.
  if (/[\p{C}\p{Zl}\p{Zp}]|(?! )\p{Zs}/u.test(value)) return 'has a character that does not print';
  return undefined;
}

/** Values that Mender limits in length and characters. */
export interface LimitedNames {
  readonly name: string;
  readonly group: string | undefined;
  readonly dependsNames: readonly string[];
  readonly dependsGroups: readonly string[];
  readonly deviceTypes: readonly string[];
}

/** Yields a sentence for each value that breaks the rules for names, the worst first. */
export function* nameFaults(names: LimitedNames): Generator<string, void, undefined> {
  if (names.name === '') yield 'the artifact name is empty';
  const values: [string, string][] = [
    ['artifact name', names.name],
    ['group', names.group ?? ''],
    ...names.dependsNames.map((value): [string, string] => ['name that is depended on', value]),
    ...names.dependsGroups.map((value): [string, string] => ['group that is depended on', value]),
    ...names.deviceTypes.map((value): [string, string] => ['device type', value]),
  ];
  for (const [what, value] of values) {
    const fault = nameFault(value);
    if (fault !== undefined) yield `the ${what} ${fault}`;
  }
}

/**
 * Refuses a name inside an archive that would lead out of its folder.
 *
 * @throws IngotError `path-refused` for absolute names, `..` and empty parts
 */
export function refuseEscapes(name: string, archive: string): void {
  const parts = (name.endsWith('/') ? name.slice(0, -1) : name).split('/');
  if (name.includes('\\') || parts.some((part) => part === '' || part === '.' || part === '..')) {
    throw new IngotError(
      'path-refused',
      `${archive} has an entry named ${JSON.stringify(name.slice(0, 200))}, which would lead elsewhere`,
      { archive, name: name.slice(0, 200) },
    );
  }
}

/** @throws IngotError `artifact-malformed` when the list of device types is empty */
export function requireDeviceTypes(deviceTypes: readonly string[], place: string): void {
  if (deviceTypes.length === 0) throw malformedAt(place, 'no device type is named');
}
