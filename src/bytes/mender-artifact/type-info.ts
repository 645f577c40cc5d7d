import { encodeGoJson, type JsonValue, parseJson, sortedMap } from './go-json.ts';
import { expectObject, expectString, expectStrings, malformedAt, optional } from './json-shape.ts';

/** A value that a device must have: one, or one of several. */
export type DependsValue = string | readonly string[];

/** What one payload is, gives and needs: the file `type-info`. */
export interface TypeInfo {
  readonly type: string | null;
  readonly provides: ReadonlyMap<string, string>;
  readonly depends: ReadonlyMap<string, DependsValue>;
  /** Patterns of provides that an installation removes from the device first; `*` is a wildcard. */
  readonly clearsProvides: readonly string[];
}

/**
 * Encodes `type-info` of version 3 with the bytes of mender-artifact; empty members are left out.
 *
 * @see docs/formats/mender-artifact.md "type-info"
 */
export function encodeTypeInfo(info: TypeInfo): Buffer {
  const object = new Map<string, JsonValue>([['type', info.type]]);
  if (info.depends.size > 0) {
    const depends = [...info.depends].map(([key, value]): [string, JsonValue] => [
      key,
      typeof value === 'string' ? value : [...value],
    ]);
    object.set('artifact_depends', sortedMap(new Map(depends)));
  }
  if (info.provides.size > 0) object.set('artifact_provides', sortedMap(info.provides));
  if (info.clearsProvides.length > 0) {
    object.set('clears_artifact_provides', [...info.clearsProvides]);
  }
  return Buffer.from(encodeGoJson(object), 'utf8');
}

function parseProvides(value: JsonValue, place: string): ReadonlyMap<string, string> {
  const object = expectObject(value, place);
  return new Map([...object].map(([key, item]) => [key, expectString(item, `${place} ${key}`)]));
}

function parseDepends(value: JsonValue, place: string): ReadonlyMap<string, DependsValue> {
  const object = expectObject(value, place);
  return new Map(
    [...object].map(([key, item]) => [
      key,
      typeof item === 'string' ? item : expectStrings(item, `${place} ${key}`),
    ]),
  );
}

/**
 * Parses `type-info`. Unknown members are tolerated, as all readers do.
 *
 * @returns `type` as it stands there: mender-artifact 3.3.0 to 4.3.0 wrote "" for a rootfs-image
 * @throws IngotError `artifact-malformed`
 */
export function parseTypeInfo(bytes: Uint8Array, place: string): TypeInfo {
  const object = expectObject(parseJson(bytes, place), place);
  const type = object.get('type') ?? null;
  if (type !== null && typeof type !== 'string') throw malformedAt(place, 'the type is no string');
  return {
    type,
    provides: optional(object, 'artifact_provides', parseProvides, place) ?? new Map(),
    depends: optional(object, 'artifact_depends', parseDepends, place) ?? new Map(),
    clearsProvides: optional(object, 'clears_artifact_provides', expectStrings, place) ?? [],
  };
}

/**
 * Parses `headers/0000/files` of version 2.
 *
 * @throws IngotError `artifact-malformed`
 */
export function parseFilesV2(bytes: Uint8Array, place: string): readonly string[] {
  const object = expectObject(parseJson(bytes, place), place);
  return expectStrings(object.get('files') ?? null, `${place} files`);
}

/** @returns `headers/0000/files` of version 2 */
export function encodeFilesV2(names: readonly string[]): Buffer {
  return Buffer.from(encodeGoJson(new Map([['files', [...names]]])), 'utf8');
}
