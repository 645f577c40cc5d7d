import { type Digest, parseDigest } from '../../base/index.ts';
import { malformedAt } from './json-shape.ts';

/** One line of a manifest: a file of the artifact and the SHA-256 of its bytes. */
export interface ManifestLine {
  readonly name: string;
  readonly digest: Digest;
}

/**
 * Encodes the list of digests, in the order given.
 *
 * @see docs/formats/mender-artifact.md "manifest"
 */
export function encodeManifest(lines: readonly ManifestLine[]): Buffer {
  return Buffer.from(lines.map(({ name, digest }) => `${digest}  ${name}\n`).join(''), 'utf8');
}

/**
 * Parses a manifest.
 *
 * @param place its name in the artifact, for messages
 * @returns lines in their order; names are unique
 * @throws IngotError `artifact-malformed`
 */
export function parseManifest(bytes: Buffer, place: string): ManifestLine[] {
  const rows = bytes.toString('utf8').split('\n');
  if (rows.at(-1) === '') rows.pop();
  const seen = new Set<string>();
  return rows.map((row, i) => {
    const match = /^(\S+) {2}([^\s]+)$/.exec(row);
    const digest = parseDigest(match?.[1] ?? '');
    const name = match?.[2];
    if (digest === undefined || name === undefined) {
      throw malformedAt(place, `line ${i + 1} is no digest, two blanks and a name`);
    }
    if (seen.has(name)) throw malformedAt(place, `line ${i + 1} names ${name} again`);
    seen.add(name);
    return { name, digest };
  });
}
