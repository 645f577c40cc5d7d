import { IngotError } from '../../base/index.ts';
import { parseJson } from './go-json.ts';
import { expectObject, malformedAt, refuseOthers } from './json-shape.ts';

/** Versions of the format that are read and written. */
export type FormatVersion = 2 | 3;

/** @returns the content of the file `version`: 31 bytes */
export function encodeVersionFile(version: FormatVersion): Buffer {
  return Buffer.from(`{"format":"mender","version":${version}}`, 'latin1');
}

/**
 * @throws IngotError `artifact-unsupported` for other versions, `artifact-malformed` for other
 *   formats and members
 */
export function parseVersionFile(bytes: Uint8Array): FormatVersion {
  const object = expectObject(parseJson(bytes, 'version'), 'version');
  refuseOthers(object, ['format', 'version'], 'version');
  if (object.get('format') !== 'mender') throw malformedAt('version', 'the format is not "mender"');
  const version = object.get('version');
  if (version === 2 || version === 3) return version;
  if (typeof version !== 'number') throw malformedAt('version', 'has no version number');
  throw new IngotError(
    'artifact-unsupported',
    `the artifact has version ${version} of the format; versions 2 and 3 are known`,
    { version },
  );
}
