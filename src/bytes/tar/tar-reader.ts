import { IngotError } from '../../base/index.ts';
import type { ByteStream } from '../byte-stream.ts';
import { TAR_BLOCK, tarPaddingBytes } from './tar-header.ts';

/** Names and PAX records are never longer than this; a hostile one would fill the memory. */
const MAX_META_BYTES = 64 * 1024;
/** How many headers may speak of the next one (PAX, GNU long name and link) before it comes. */
const MAX_META_HEADERS = 8;
const PIECE_BYTES = 256 * 1024;

/** What an entry of a tar archive is. Everything but files and directories is `other`. */
type TarEntryType = 'file' | 'directory' | 'other';

/** One entry, while the archive is read. */
export interface TarEntry {
  readonly name: string;
  readonly type: TarEntryType;
  readonly sizeBytes: number;
  readonly mode: number;
  /** Seconds since 1970, whole. */
  readonly mtimeSeconds: number;
  /** Where the entry's first header (a PAX header, if it has one) begins in the archive. */
  readonly startByte: number;
  /** Where its body begins in the archive. */
  readonly bodyByte: number;
  /**
   * Yields the body's pieces; to be read at most once, and before the next entry is asked for.
   *
   * @throws IngotError `artifact-malformed` when the archive ends before the body does
   */
  body(): AsyncGenerator<Buffer, void, undefined>;
}

/** How strict a reader is about the end, and what it calls the archive in failures. */
export interface TarReadOptions {
  /** Name of the archive in messages: `the artifact`, `data/0000.tar.gz`. */
  readonly archive: string;
  /** Whether the two zero blocks must be there, or the bytes may end after an entry. */
  readonly end: 'required' | 'optional';
}

interface Overrides {
  name?: string;
  sizeBytes?: number;
}

function malformed(archive: string, offsetBytes: number, what: string): IngotError {
  return new IngotError('artifact-malformed', `${archive} at byte ${offsetBytes}: ${what}`, {
    archive,
    offsetBytes,
  });
}

function text(block: Buffer, start: number, length: number): string {
  const field = block.subarray(start, start + length);
  const end = field.indexOf(0);
  return field.toString('utf8', 0, end === -1 ? length : end);
}

/** Reads a number field: octal digits between blanks and NULs, or base 256 (GNU). */
function number(block: Buffer, start: number, length: number): number | undefined {
  const first = block[start] ?? 0;
  if ((first & 0x80) !== 0) {
    let value = first & 0x7f;
    // The sign bit of a negative number is refused with everything else that is too large.
    for (let i = 1; i < length; i++) {
      value = value * 256 + (block[start + i] ?? 0);
      if (value > Number.MAX_SAFE_INTEGER) return undefined;
    }
    return value;
  }
  const digits = /^ *([0-7]*)[ \0]*$/.exec(block.toString('latin1', start, start + length));
  if (digits === null) return undefined;
  const value = digits[1] === '' ? 0 : Number.parseInt(digits[1] ?? '', 8);
  return Number.isSafeInteger(value) ? value : undefined;
}

function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}

function hasChecksum(block: Buffer): boolean {
  const stored = number(block, 148, 8);
  let unsigned = 8 * 0x20;
  let signed = unsigned;
  for (let i = 0; i < TAR_BLOCK; i++) {
    if (i >= 148 && i < 156) continue;
    unsigned += block[i] ?? 0;
    signed += block.readInt8(i);
  }
  return stored === unsigned || stored === signed;
}

function entryType(flag: string, name: string): TarEntryType {
  if (flag === '5') return 'directory';
  if (flag === '0' || flag === '\0' || flag === '7')
    return name.endsWith('/') ? 'directory' : 'file';
  return 'other';
}

/** Reads `length key=value\n` records; the last of one key wins. */
function parsePax(body: Buffer): Map<string, string> | undefined {
  const records = new Map<string, string>();
  let at = 0;
  while (at < body.length) {
    const blank = body.indexOf(0x20, at);
    const length = Number(body.toString('latin1', at, blank === -1 ? at : blank));
    if (!Number.isInteger(length) || length < 5 || at + length > body.length) return undefined;
    const equals = body.indexOf(0x3d, blank);
    if (equals === -1 || equals >= at + length || body[at + length - 1] !== 0x0a) return undefined;
    records.set(
      body.toString('utf8', blank + 1, equals),
      body.toString('utf8', equals + 1, at + length - 1),
    );
    at += length;
  }
  return records;
}

function paxOverrides(body: Buffer): Overrides | undefined {
  const records = parsePax(body);
  if (records === undefined) return undefined;
  const overrides: Overrides = {};
  for (const [key, value] of records) {
    // A sparse file's bytes are not its content; nothing that we read has one.
    if (key.startsWith('GNU.sparse')) return undefined;
    if (key === 'path') overrides.name = value;
    if (key === 'size') {
      if (!/^\d{1,16}$/.test(value) || !Number.isSafeInteger(Number(value))) return undefined;
      overrides.sizeBytes = Number(value);
    }
  }
  return overrides;
}

/** Reads one archive; {@link readTar} is its door. */
class TarReader {
  readonly #stream: ByteStream;
  readonly #options: TarReadOptions;
  #leftBytes = 0;
  #paddingBytes = 0;

  constructor(stream: ByteStream, options: TarReadOptions) {
    this.#stream = stream;
    this.#options = options;
  }

  #fail(offsetBytes: number, what: string): IngotError {
    return malformed(this.#options.archive, offsetBytes, what);
  }

  async *#body(name: string): AsyncGenerator<Buffer, void, undefined> {
    while (this.#leftBytes > 0) {
      const piece = await this.#stream.takeSome(Math.min(this.#leftBytes, PIECE_BYTES));
      if (piece === undefined) {
        throw this.#fail(
          this.#stream.offsetBytes,
          `the archive ends ${this.#leftBytes} bytes before the end of ${name}`,
        );
      }
      this.#leftBytes -= piece.length;
      yield piece;
    }
  }

  async #skipRest(name: string): Promise<void> {
    // Nothing to do with the pieces: they are read so that the next header is found.
    for await (const piece of this.#body(name)) void piece;
    const padding = await this.#stream.take(this.#paddingBytes);
    if (padding.length < this.#paddingBytes) {
      throw this.#fail(this.#stream.offsetBytes, `the archive ends in the padding of ${name}`);
    }
    this.#paddingBytes = 0;
  }

  async #meta(sizeBytes: number, startByte: number): Promise<Buffer> {
    if (sizeBytes > MAX_META_BYTES) {
      throw this.#fail(startByte, `an extended header of ${sizeBytes} bytes is too long`);
    }
    const padded = sizeBytes + tarPaddingBytes(sizeBytes);
    const body = await this.#stream.take(padded);
    if (body.length < padded) throw this.#fail(startByte, 'the archive ends in a header');
    return body.subarray(0, sizeBytes);
  }

  /** @returns the next header block, or undefined at the end of the archive */
  async #block(): Promise<Buffer | undefined> {
    const startByte = this.#stream.offsetBytes;
    const block = await this.#stream.take(TAR_BLOCK);
    if (block.length === 0 && this.#options.end === 'optional') return undefined;
    if (block.length < TAR_BLOCK) {
      throw this.#fail(startByte, 'the archive ends where a header or its two zero blocks belong');
    }
    if (!isZero(block)) {
      if (!hasChecksum(block)) throw this.#fail(startByte, 'no tar header with a right checksum');
      return block;
    }
    const second = await this.#stream.take(TAR_BLOCK);
    if (second.length === TAR_BLOCK && isZero(second)) return undefined;
    if (second.length === 0 && this.#options.end === 'optional') return undefined;
    throw this.#fail(startByte, 'only one zero block ends the archive');
  }

  #field(
    block: Buffer,
    { at, length, what }: { at: number; length: number; what: string },
  ): number {
    const value = number(block, at, length);
    if (value === undefined) {
      throw this.#fail(this.#stream.offsetBytes - TAR_BLOCK, `the ${what} is no number`);
    }
    return value;
  }

  /** Reads headers up to and with the next entry's own. */
  async #header(): Promise<TarEntry | undefined> {
    const startByte = this.#stream.offsetBytes;
    let overrides: Overrides = {};
    for (let metas = 0; metas <= MAX_META_HEADERS; metas++) {
      const at = this.#stream.offsetBytes;
      const block = await this.#block();
      if (block === undefined) {
        if (metas > 0) throw this.#fail(at, 'an extended header is followed by nothing');
        return undefined;
      }
      const flag = String.fromCharCode(block[156] ?? 0);
      const sizeBytes = this.#field(block, { at: 124, length: 12, what: 'size' });
      if (flag === 'x') {
        const pax = paxOverrides(await this.#meta(sizeBytes, at));
        if (pax === undefined) throw this.#fail(at, 'a PAX header has a record that is refused');
        overrides = { ...overrides, ...pax };
      } else if (flag === 'L') {
        overrides.name = text(await this.#meta(sizeBytes, at), 0, sizeBytes);
      } else if (flag === 'g' || flag === 'K') {
        await this.#meta(sizeBytes, at);
      } else {
        return this.#entry(block, { flag, sizeBytes, overrides, startByte });
      }
    }
    throw this.#fail(startByte, `more than ${MAX_META_HEADERS} extended headers in a row`);
  }

  #entry(
    block: Buffer,
    {
      flag,
      sizeBytes,
      overrides,
      startByte,
    }: {
      readonly flag: string;
      readonly sizeBytes: number;
      readonly overrides: Overrides;
      readonly startByte: number;
    },
  ): TarEntry {
    const isUstar = block.toString('latin1', 257, 263) === 'ustar\0';
    const prefix = isUstar ? text(block, 345, 155) : '';
    const short = text(block, 0, 100);
    const name = overrides.name ?? (prefix === '' ? short : `${prefix}/${short}`);
    if (name.includes('\0') || name === '') throw this.#fail(startByte, 'an entry has no name');
    const type = entryType(flag, name);
    // Only files have bodies; what a header says of a link's or folder's size is not trusted.
    this.#leftBytes = type === 'file' ? (overrides.sizeBytes ?? sizeBytes) : 0;
    this.#paddingBytes = tarPaddingBytes(this.#leftBytes);
    return {
      name,
      type,
      sizeBytes: this.#leftBytes,
      mode: this.#field(block, { at: 100, length: 8, what: 'mode' }) & 0o7777,
      mtimeSeconds: this.#field(block, { at: 136, length: 12, what: 'time' }),
      startByte,
      bodyByte: this.#stream.offsetBytes,
      body: () => this.#body(name),
    };
  }

  async *entries(): AsyncGenerator<TarEntry, void, undefined> {
    for (;;) {
      const entry = await this.#header();
      if (entry === undefined) return;
      yield entry;
      await this.#skipRest(entry.name);
    }
  }
}

/**
 * Reads a tar archive entry by entry, in bounded memory: USTAR, V7, PAX and GNU long names and
 * sizes. Every header's checksum is checked.
 *
 * Ends behind the two zero blocks; what follows them in `stream` is the caller's to judge.
 *
 * @throws IngotError `artifact-malformed` with the archive's name and the byte
 * @see docs/formats/mender-artifact.md "Tar headers"
 */
export function readTar(
  stream: ByteStream,
  options: TarReadOptions,
): AsyncGenerator<TarEntry, void, undefined> {
  return new TarReader(stream, options).entries();
}
