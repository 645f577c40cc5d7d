import { IngotError } from '../../base/index.ts';

/** Tar archives are made of blocks of this many bytes. */
export const TAR_BLOCK = 512;

/** The largest size that eleven octal digits hold: 8 GiB less one byte. */
export const MAX_OCTAL_SIZE = 0o77777777777;

const NAME_BYTES = 100;
const PREFIX_BYTES = 155;
const TYPE_FILE = '0';
const TYPE_PAX = 'x';

/** A regular file in a tar archive. Owner, group and device numbers are always 0 and unnamed. */
export interface TarFile {
  readonly name: string;
  readonly sizeBytes: number;
  /** Permission bits. */
  readonly mode: number;
}

/** @returns how many zero bytes follow a body of this size */
export function tarPaddingBytes(sizeBytes: number): number {
  return (TAR_BLOCK - (sizeBytes % TAR_BLOCK)) % TAR_BLOCK;
}

function octal(value: number, digits: number): string {
  return `${value.toString(8).padStart(digits, '0')}\0`;
}

function isAscii(text: string): boolean {
  return /^\p{ASCII}*$/u.test(text);
}

/** Splits a long name at a slash as USTAR allows, or gives undefined where it cannot. */
function splitName(name: string): { prefix: string; name: string } | undefined {
  if (name.length <= NAME_BYTES) return { prefix: '', name };
  const slash = name.lastIndexOf('/', Math.min(name.length, PREFIX_BYTES + 1) - 1);
  const tail = name.slice(slash + 1);
  if (slash <= 0 || tail.length > NAME_BYTES || tail.length === 0) return undefined;
  return { prefix: name.slice(0, slash), name: tail };
}

function withChecksum(block: Buffer): Buffer {
  block.fill(' ', 148, 156);
  let sum = 0;
  for (const byte of block) sum += byte;
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}

/** Numbers, type and magic that both kinds of header share. */
function baseBlock(
  name: string,
  {
    mode,
    sizeBytes,
    type,
  }: {
    readonly mode: number;
    readonly sizeBytes: number;
    readonly type: string;
  },
): Buffer {
  const block = Buffer.alloc(TAR_BLOCK);
  block.write(name, 0, NAME_BYTES, 'latin1');
  block.write(octal(mode, 7), 100, 'latin1');
  block.write(octal(0, 7), 108, 'latin1');
  block.write(octal(0, 7), 116, 'latin1');
  block.write(octal(sizeBytes, 11), 124, 'latin1');
  block.write(octal(0, 11), 136, 'latin1');
  block.write(type, 156, 'latin1');
  block.write('ustar\u000000', 257, 'latin1');
  return block;
}

/** One record of a PAX header; its length counts its own digits. */
function paxRecord(key: string, value: string): string {
  const rest = Buffer.byteLength(` ${key}=${value}\n`);
  let total = rest + String(rest).length;
  if (String(total).length > String(rest).length) total = rest + String(total).length;
  return `${total} ${key}=${value}\n`;
}

function paxHeader(name: string, records: string): Buffer {
  const slash = name.lastIndexOf('/') + 1;
  const ascii = `${name.slice(0, slash)}PaxHeaders.0/${name.slice(slash)}`.replaceAll(
    /\P{ASCII}/gu,
    '',
  );
  const body = Buffer.from(records, 'utf8');
  const block = baseBlock(ascii.slice(0, NAME_BYTES).replace(/\/+$/, ''), {
    mode: 0,
    sizeBytes: body.length,
    type: TYPE_PAX,
  });
  return Buffer.concat([withChecksum(block), body, Buffer.alloc(tarPaddingBytes(body.length))]);
}

/**
 * Encodes the header of a regular file with the bytes of Go's archive/tar: USTAR, and a PAX header
 * before it where the size (8 GiB and more) or the name does not fit.
 *
 * Time is 0 and the owner is 0 without a name, so that archives depend on nothing but their content.
 *
 * @param file its name has no NUL; `forcePax` writes the size as a PAX record though it would fit,
 *   for a place that is kept before the size is known
 * @returns 512 bytes, or 1536 with a PAX header
 * @throws RangeError when a number is no whole number that tar can hold
 * @see docs/formats/mender-artifact.md "Tar headers"
 */
export function encodeTarHeader(
  file: TarFile,
  { forcePax = false }: { readonly forcePax?: boolean } = {},
): Buffer {
  if (!Number.isSafeInteger(file.sizeBytes) || file.sizeBytes < 0) {
    throw new RangeError(`a tar entry cannot have ${file.sizeBytes} bytes`);
  }
  if (file.name.includes('\0')) throw new RangeError('a tar name cannot hold a NUL byte');
  const split = isAscii(file.name) ? splitName(file.name) : undefined;
  const sizeFits = file.sizeBytes <= MAX_OCTAL_SIZE;
  const records =
    (split === undefined ? paxRecord('path', file.name) : '') +
    (sizeFits && !forcePax ? '' : paxRecord('size', String(file.sizeBytes)));
  const usesPax = records !== '';
  const ascii = isAscii(file.name) ? file.name : file.name.replaceAll(/\P{ASCII}/gu, '');
  const block = baseBlock(usesPax || split === undefined ? ascii : split.name, {
    mode: file.mode & 0o7777,
    sizeBytes: sizeFits ? file.sizeBytes : 0,
    type: TYPE_FILE,
  });
  block.write(octal(0, 7), 329, 'latin1');
  block.write(octal(0, 7), 337, 'latin1');
  if (!usesPax && split !== undefined) block.write(split.prefix, 345, PREFIX_BYTES, 'latin1');
  withChecksum(block);
  return usesPax ? Buffer.concat([paxHeader(file.name, records), block]) : block;
}

/** The two zero blocks that end an archive. */
export const TAR_END: Buffer = Buffer.alloc(2 * TAR_BLOCK);

/**
 * Encodes a small archive that is wholly in memory.
 *
 * @throws IngotError `artifact-malformed` when a body has another size than its header says
 */
export function encodeTar(
  files: readonly { readonly name: string; readonly mode: number; readonly body: Uint8Array }[],
): Buffer {
  const parts: Uint8Array[] = [];
  const names = new Set<string>();
  for (const { name, mode, body } of files) {
    if (names.has(name)) {
      throw new IngotError('artifact-malformed', `${name} would stand twice in the archive`, {
        name,
      });
    }
    names.add(name);
    parts.push(encodeTarHeader({ name, mode, sizeBytes: body.byteLength }), body);
    parts.push(Buffer.alloc(tarPaddingBytes(body.byteLength)));
  }
  parts.push(TAR_END);
  return Buffer.concat(parts);
}
