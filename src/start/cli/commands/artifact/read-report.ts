import {
  type Artifact,
  type DependsValue,
  encodeGoJson,
  type JsonValue,
  sortedDeep,
  sortedMap,
} from '../../../../bytes/index.ts';

const SIGNATURE_TEXTS = {
  absent: 'no signature',
  unchecked:
    'signed but no key for verification provided; please use `-k` option for providing verification key',
  right: 'signed and verified correctly',
  wrong: 'signed; verification using provided key failed',
} as const;

const STEP = '  ';

function flow(values: readonly string[]): string {
  return `[${values.join(', ')}]`;
}

function shown(value: DependsValue): string {
  return typeof value === 'string' ? value : flow(value);
}

function* object(
  title: string,
  members: ReadonlyMap<string, DependsValue>,
  indent: string,
): Generator<string, void, undefined> {
  if (members.size === 0) {
    yield `${indent}${title}: {}`;
    return;
  }
  yield `${indent}${title}:`;
  for (const [key, value] of sortedMap(members)) yield `${indent}${STEP}${key}: ${shown(value)}`;
}

/** Prints a time as Go does: `2026-11-22 06:05:10 +0000 UTC`. */
function goTime(seconds: number): string {
  const date = new Date(seconds * 1000);
  if (Number.isNaN(date.getTime())) return `${seconds} s since 1970`;
  return `${date.toISOString().replace('T', ' ').slice(0, 19)} +0000 UTC`;
}

/** Both parts of an augmented artifact as a device sees them: the augmented one wins. */
function merged(artifact: Artifact) {
  const { payload, augment } = artifact;
  return {
    type: augment?.payloadType || artifact.info.payloadType,
    provides: new Map([...payload.typeInfo.provides, ...(augment?.typeInfo.provides ?? [])]),
    depends: new Map([...payload.typeInfo.depends, ...(augment?.typeInfo.depends ?? [])]),
    metaData: new Map([...(payload.metaData ?? []), ...(augment?.metaData ?? [])]),
    clearsProvides: payload.typeInfo.clearsProvides,
  };
}

function* metaData(
  value: ReadonlyMap<string, JsonValue>,
  indent: string,
): Generator<string, void, undefined> {
  if (value.size === 0) {
    yield `${indent}Metadata: {}`;
    return;
  }
  yield `${indent}Metadata:`;
  const text = JSON.stringify(JSON.parse(encodeGoJson(sortedDeep(value))), undefined, 2);
  for (const line of text.split('\n')) yield `${indent}${STEP}${line}`;
}

function* files(artifact: Artifact, indent: string): Generator<string, void, undefined> {
  if (artifact.files.length === 0) {
    yield `${indent}Files: []`;
    return;
  }
  yield `${indent}Files:`;
  for (const { digest, mtimeSeconds, name, sizeBytes } of artifact.files) {
    yield `${indent}${STEP}- checksum: ${digest}`;
    yield `${indent}${STEP}  modified: ${goTime(mtimeSeconds)}`;
    yield `${indent}${STEP}  name: ${name}`;
    yield `${indent}${STEP}  size: ${sizeBytes}`;
  }
}

function* lines(artifact: Artifact): Generator<string, void, undefined> {
  const { info } = artifact;
  yield 'Mender Artifact:';
  yield `  Name: ${info.name}`;
  yield '  Format: mender';
  yield `  Version: ${artifact.version}`;
  yield `  Signature: ${SIGNATURE_TEXTS[artifact.signature]}`;
  yield `  Compatible types: ${flow(info.deviceTypes)}`;
  if (artifact.version === 3) {
    yield `  Provides group: ${info.group ?? ''}`;
    yield `  Depends on one of artifact(s): ${flow(info.dependsNames)}`;
    yield `  Depends on one of group(s): ${flow(info.dependsGroups)}`;
  }
  yield artifact.scripts.length === 0 ? '  State scripts: []' : '  State scripts:';
  for (const script of artifact.scripts) yield `    - ${script.name}`;
  yield '';
  yield 'Updates:';
  const update = merged(artifact);
  yield `  - Type: ${update.type ?? 'Empty type'}`;
  yield* object('Provides', update.provides, '    ');
  yield* object('Depends', update.depends, '    ');
  yield `    Clears Provides: ${flow(update.clearsProvides)}`;
  yield* metaData(update.metaData, '    ');
  yield* files(artifact, '    ');
}

/** Describes an artifact in the YAML-like words of mender-artifact 4. */
export function artifactText(artifact: Artifact): string {
  return `${[...lines(artifact)].join('\n')}\n`;
}

/** Describes an artifact for programs. */
export function artifactJson(artifact: Artifact): string {
  const { info } = artifact;
  const update = merged(artifact);
  const depends = [...update.depends].map(([key, value]): [string, JsonValue] => [
    key,
    typeof value === 'string' ? value : [...value],
  ]);
  const value = new Map<string, JsonValue>([
    ['name', info.name],
    ['format', 'mender'],
    ['version', artifact.version],
    ['compression', artifact.compression],
    ['size', artifact.sizeBytes],
    ['signature', artifact.signature],
    ['compatible_types', [...info.deviceTypes]],
    ['provides_group', info.group ?? null],
    ['depends_names', [...info.dependsNames]],
    ['depends_groups', [...info.dependsGroups]],
    ['state_scripts', artifact.scripts.map((script) => script.name)],
    ['type', update.type],
    ['provides', sortedMap(update.provides)],
    ['depends', sortedMap(new Map(depends))],
    ['clears_provides', [...update.clearsProvides]],
    ['meta_data', sortedDeep(update.metaData)],
    [
      'files',
      artifact.files.map(
        (file) =>
          new Map<string, JsonValue>([
            ['name', file.name],
            ['size', file.sizeBytes],
            ['checksum', file.digest],
            ['modified', file.mtimeSeconds],
            ['augmented', file.isAugmented],
          ]),
      ),
    ],
    ['notices', [...artifact.notices]],
  ]);
  return `${encodeGoJson(value)}\n`;
}
