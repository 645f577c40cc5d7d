import { encodeGoJson, type JsonValue, parseJson } from './go-json.ts';
import {
  expectList,
  expectObject,
  expectString,
  expectStrings,
  malformedAt,
  optional,
  refuseOthers,
} from './json-shape.ts';
import { requireDeviceTypes } from './rules.ts';
import type { FormatVersion } from './version-file.ts';

/** What an artifact is called, gives and needs: the file `header-info`. */
export interface HeaderInfo {
  /** `rootfs-image`, the name of an update module, or null for a bootstrap artifact. */
  readonly payloadType: string | null;
  readonly name: string;
  /** Group that the artifact puts a device in; not in version 2. */
  readonly group: string | undefined;
  /** One of these artifacts must be installed; not in version 2. */
  readonly dependsNames: readonly string[];
  /** Never empty. */
  readonly deviceTypes: readonly string[];
  /** The device must be in one of these groups; not in version 2. */
  readonly dependsGroups: readonly string[];
}

const PLACE = 'header-info';

function list(values: readonly string[]): JsonValue {
  return [...values];
}

/**
 * Encodes `header-info` with the bytes of mender-artifact.
 *
 * @see docs/formats/mender-artifact.md "header-info"
 */
export function encodeHeaderInfo(info: HeaderInfo, version: FormatVersion): Buffer {
  if (version === 2) {
    const v2 = new Map<string, JsonValue>([
      ['artifact_name', info.name],
      ['updates', [new Map([['type', info.payloadType]])]],
      ['device_types_compatible', list(info.deviceTypes)],
    ]);
    return Buffer.from(encodeGoJson(v2), 'utf8');
  }
  const provides = new Map<string, JsonValue>([['artifact_name', info.name]]);
  if (info.group !== undefined && info.group !== '') provides.set('artifact_group', info.group);
  const depends = new Map<string, JsonValue>();
  if (info.dependsNames.length > 0) depends.set('artifact_name', list(info.dependsNames));
  depends.set('device_type', list(info.deviceTypes));
  if (info.dependsGroups.length > 0) depends.set('artifact_group', list(info.dependsGroups));
  const v3 = new Map<string, JsonValue>([
    ['payloads', [new Map([['type', info.payloadType]])]],
    ['artifact_provides', provides],
    ['artifact_depends', depends],
  ]);
  return Buffer.from(encodeGoJson(v3), 'utf8');
}

/** Reads the list of payload types: exactly one. */
export function parsePayloadType(value: JsonValue | undefined, place: string): string | null {
  const payloads = expectList(value ?? null, place);
  const only = payloads[0];
  if (payloads.length !== 1 || only === undefined) {
    throw malformedAt(place, `has ${payloads.length} payloads; one is what clients take`);
  }
  const payload = expectObject(only, `${place}[0]`);
  refuseOthers(payload, ['type'], `${place}[0]`);
  const type = payload.get('type');
  if (type === null) return null;
  return expectString(type ?? '', `${place}[0] type`);
}

function parseV2(object: ReadonlyMap<string, JsonValue>): HeaderInfo {
  refuseOthers(object, ['artifact_name', 'updates', 'device_types_compatible'], PLACE);
  return {
    payloadType: parsePayloadType(object.get('updates'), `${PLACE} updates`),
    name: expectString(object.get('artifact_name') ?? null, `${PLACE} artifact_name`),
    group: undefined,
    dependsNames: [],
    deviceTypes: optional(object, 'device_types_compatible', expectStrings, PLACE) ?? [],
    dependsGroups: [],
  };
}

function parseV3(object: ReadonlyMap<string, JsonValue>): HeaderInfo {
  refuseOthers(object, ['payloads', 'artifact_provides', 'artifact_depends'], PLACE);
  const providesPlace = `${PLACE} artifact_provides`;
  const provides = expectObject(object.get('artifact_provides') ?? null, providesPlace);
  refuseOthers(provides, ['artifact_name', 'artifact_group'], providesPlace);
  const dependsPlace = `${PLACE} artifact_depends`;
  const depends = expectObject(object.get('artifact_depends') ?? null, dependsPlace);
  return {
    payloadType: parsePayloadType(object.get('payloads'), `${PLACE} payloads`),
    name: expectString(provides.get('artifact_name') ?? null, `${providesPlace} artifact_name`),
    group: optional(provides, 'artifact_group', expectString, providesPlace),
    dependsNames: optional(depends, 'artifact_name', expectStrings, dependsPlace) ?? [],
    deviceTypes: optional(depends, 'device_type', expectStrings, dependsPlace) ?? [],
    dependsGroups: optional(depends, 'artifact_group', expectStrings, dependsPlace) ?? [],
  };
}

/**
 * Parses `header-info`. Unknown members are refused, except inside `artifact_depends`.
 *
 * @throws IngotError `artifact-malformed`
 */
export function parseHeaderInfo(bytes: Uint8Array, version: FormatVersion): HeaderInfo {
  const object = expectObject(parseJson(bytes, PLACE), PLACE);
  const info = version === 2 ? parseV2(object) : parseV3(object);
  requireDeviceTypes(info.deviceTypes, PLACE);
  return info;
}
