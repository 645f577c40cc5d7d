import { IngotError } from '../../base/index.ts';

/** A JSON value whose objects are maps: a hostile key such as `__proto__` is a key like any other. */
export type JsonValue =
  | null
  | boolean
  | number
  | string
  | readonly JsonValue[]
  | ReadonlyMap<string, JsonValue>;

/** Deeper nesting is refused: no metadata needs it, and recursion has an end. */
const MAX_DEPTH = 200;

const ESCAPES: Readonly<Record<string, string>> = {
  '<': '\\u003c',
  '>': '\\u003e',
  '&': '\\u0026',
  '\u2028': '\\u2028',
  '\u2029': '\\u2029',
};

function quoted(text: string): string {
  return JSON.stringify(text.toWellFormed()).replaceAll(
    /[<>&\u2028\u2029]/g,
    (found) => ESCAPES[found] ?? found,
  );
}

function encode(value: JsonValue, depth: number): string {
  if (depth > MAX_DEPTH) {
    throw new IngotError('artifact-malformed', `JSON is nested deeper than ${MAX_DEPTH} levels`);
  }
  if (value === null || typeof value === 'boolean') return String(value);
  if (typeof value === 'string') return quoted(value);
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) {
      throw new IngotError('artifact-malformed', 'a JSON number is too large for a double');
    }
    return Object.is(value, -0) ? '-0' : String(value);
  }
  if (value instanceof Map) {
    const members: string[] = [];
    for (const [key, member] of value) {
      members.push(`${quoted(key)}:${encode(member, depth + 1)}`);
    }
    return `{${members.join(',')}}`;
  }
  return `[${[...(value as readonly JsonValue[])].map((item) => encode(item, depth + 1)).join(',')}]`;
}

/**
 * Encodes a value with the bytes of Go's encoding/json: no blanks, `<`, `>`, `&` and the two
 * Unicode line ends escaped, lone surrogates replaced. Members stand in the map's order.
 *
 * @throws IngotError `artifact-malformed` for numbers that are not finite and for deep nesting
 * @see docs/formats/mender-artifact.md "JSON"
 */
export function encodeGoJson(value: JsonValue): string {
  return encode(value, 0);
}

/** Orders two strings by their UTF-8 bytes, as Go sorts the keys of maps. */
export function byBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/** @returns the map with its keys in byte order */
export function sortedMap<T>(map: ReadonlyMap<string, T>): Map<string, T> {
  return new Map([...map].sort(([a], [b]) => byBytes(a, b)));
}

function toMaps(value: unknown, depth: number): JsonValue {
  if (depth > MAX_DEPTH) throw new RangeError(`nested deeper than ${MAX_DEPTH} levels`);
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return value;
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) throw new RangeError('a number is too large for a double');
    return value;
  }
  if (Array.isArray(value)) return value.map((item) => toMaps(item, depth + 1));
  const map = new Map<string, JsonValue>();
  for (const [key, member] of Object.entries(value as object)) {
    map.set(key, toMaps(member, depth + 1));
  }
  return map;
}

/**
 * Parses UTF-8 JSON; objects become maps in the order of the text.
 *
 * @param place what the bytes are, for the message: `header-info`
 * @throws IngotError `artifact-malformed`
 */
export function parseJson(bytes: Uint8Array, place: string): JsonValue {
  try {
    return toMaps(JSON.parse(new TextDecoder().decode(bytes)), 0);
  } catch (cause) {
    throw new IngotError('artifact-malformed', `${place} is no JSON`, { place }, { cause });
  }
}

/** @returns the value with the keys of every object in byte order, as Go writes maps */
export function sortedDeep(value: JsonValue): JsonValue {
  if (value instanceof Map) {
    return sortedMap(new Map([...value].map(([key, member]) => [key, sortedDeep(member)])));
  }
  if (Array.isArray(value)) return value.map(sortedDeep);
  return value;
}
