import { IngotError } from '../base/index.ts';

const ENTRY_BYTES = 16;
/** rpm's own limits: tags and bytes of a header. */
const MAX_ENTRIES = 65_535;
const MAX_DATA_BYTES = 256 * 1024 * 1024;
const TAG = { name: 1000, version: 1001, release: 1002, epoch: 1003, arch: 1022 } as const;
const TYPE = { int32: 4, string: 6 } as const;

/** What a package is called, in the words of `rpm -q`. */
export interface RpmPackage {
  readonly name: string;
  /** `[EPOCH:]VERSION-RELEASE.ARCH`; what has no architecture (keys) has none here. */
  readonly version: string;
}

/**
 * Reads the header of an installed package, as rpm's database keeps it.
 *
 * @throws IngotError `filesystem-malformed`
 * @see docs/formats/rpm-database.md
 */
export function parseRpmHeader(header: Buffer): RpmPackage {
  const count = header.length < 8 ? 0 : header.readUInt32BE(0);
  const dataBytes = header.length < 8 ? 0 : header.readUInt32BE(4);
  const dataAt = 8 + count * ENTRY_BYTES;
  const isBelievable = count > 0 && count <= MAX_ENTRIES && dataBytes <= MAX_DATA_BYTES;
  if (!isBelievable || dataAt + dataBytes > header.length) {
    throw malformedHeader(`${count} tags and ${dataBytes} bytes in ${header.length}`);
  }
  const data = header.subarray(dataAt, dataAt + dataBytes);
  const found = new Map<number, { readonly type: number; readonly offset: number }>();
  for (let at = 8; at < dataAt; at += ENTRY_BYTES) {
    const tag = header.readUInt32BE(at);
    found.set(tag, { type: header.readUInt32BE(at + 4), offset: header.readUInt32BE(at + 8) });
  }
  const textOf = (tag: number): string | undefined => {
    const entry = found.get(tag);
    if (entry?.type !== TYPE.string) return undefined;
    const end = data.indexOf(0, entry.offset);
    if (end < 0) throw malformedHeader(`tag ${tag} has no end`);
    return data.toString('utf8', entry.offset, end);
  };
  const [name, version, release] = [textOf(TAG.name), textOf(TAG.version), textOf(TAG.release)];
  if (name === undefined || version === undefined || release === undefined) {
    throw malformedHeader('it has no name, version or release');
  }
  const epochEntry = found.get(TAG.epoch);
  let epoch = '';
  if (epochEntry?.type === TYPE.int32) {
    if (epochEntry.offset + 4 > data.length) throw malformedHeader('its epoch is outside');
    epoch = `${data.readUInt32BE(epochEntry.offset)}:`;
  }
  const arch = textOf(TAG.arch);
  return { name, version: `${epoch}${version}-${release}${arch === undefined ? '' : `.${arch}`}` };
}

function malformedHeader(words: string): IngotError {
  return new IngotError('filesystem-malformed', `the header of an rpm package is wrong: ${words}`);
}
