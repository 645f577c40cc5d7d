import { IngotError } from '../../base/index.ts';
import type { JsonValue } from './go-json.ts';

/** @returns a failure that names the place and what is wrong there */
export function malformedAt(place: string, what: string, options?: ErrorOptions): IngotError {
  return new IngotError('artifact-malformed', `${place}: ${what}`, { place }, options);
}

/** @throws IngotError `artifact-malformed` when `value` is no object */
export function expectObject(value: JsonValue, place: string): ReadonlyMap<string, JsonValue> {
  if (value instanceof Map) return value;
  throw malformedAt(place, 'is no object');
}

/** @throws IngotError `artifact-malformed` when `value` is no string */
export function expectString(value: JsonValue, place: string): string {
  if (typeof value === 'string') return value;
  throw malformedAt(place, 'is no string');
}

/** @throws IngotError `artifact-malformed` when `value` is no list */
export function expectList(value: JsonValue, place: string): readonly JsonValue[] {
  if (Array.isArray(value)) return value;
  throw malformedAt(place, 'is no list');
}

/** @throws IngotError `artifact-malformed` when `value` is no list of strings */
export function expectStrings(value: JsonValue, place: string): readonly string[] {
  return expectList(value, place).map((item, i) => expectString(item, `${place}[${i}]`));
}

/** @throws IngotError `artifact-malformed` when the object has a member that is not in `known` */
export function refuseOthers(
  object: ReadonlyMap<string, JsonValue>,
  known: readonly string[],
  place: string,
): void {
  for (const key of object.keys()) {
    if (!known.includes(key))
      throw malformedAt(place, `has the unknown member ${JSON.stringify(key)}`);
  }
}

/** Reads a member that may be absent or null. */
export function optional<T>(
  object: ReadonlyMap<string, JsonValue>,
  key: string,
  read: (value: JsonValue, place: string) => T,
  place: string,
): T | undefined {
  const value = object.get(key);
  return value === undefined || value === null ? undefined : read(value, `${place} ${key}`);
}
